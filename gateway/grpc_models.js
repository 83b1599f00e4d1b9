// Which model a gRPC call is for. Over HTTP the path says it; in gRPC it stands inside the
// message, in field 1 of ModelInferRequest, ModelReadyRequest and ModelMetadataRequest. Only calls
// for public models go on, each to the location with its model's rules.
//
// A body is read in small pieces from the file that nginx has put it into: pictures are skipped, so
// a call takes little memory here however large it is.

import fs from 'fs';

const PUBLIC_MODELS = [
    'product_match', 'product_ingest', 'product_feedback', 'product_picture', 'product_report',
];
const NAME_FIELD = 1;
const FRAME_HEADER_BYTES = 5;
// No message of the protocol has a field number that takes more.
const MAX_TAG_BYTES = 2;
const MAX_LENGTH_BYTES = 5;
// A tag and a length, or a number.
const HEAD_BYTES = 16;
// Clients send some ten inputs; a body of empty fields alone would keep this process busy.
const MAX_FIELDS = 1000;
// Longer names are of no public model.
const MAX_NAME_BYTES = 64;

const VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5;

// Varint at an offset: [value, next offset]; null if it is cut off or too long.
function varint(bytes, at, maxBytes) {
    let value = 0;
    for (let i = 0; i < maxBytes && at + i < bytes.length; i++) {
        const byte = bytes[at + i];
        value += (byte & 0x7f) * Math.pow(2, 7 * i);
        if (byte < 0x80) {
            return [value, at + i + 1];
        }
    }
    return null;
}

// The model of a call's body (one uncompressed frame with one message); null if it is none of
// that, or names no model or several. A server takes the last of several.
// read(at, size): so many bytes from an offset, fewer where the body ends.
function modelName(read, total) {
    const frame = read(0, FRAME_HEADER_BYTES);
    if (frame.length < FRAME_HEADER_BYTES || frame[0] !== 0
        || frame.readUInt32BE(1) !== total - FRAME_HEADER_BYTES) {
        return null;
    }
    let name = null;
    let at = FRAME_HEADER_BYTES;
    for (let fields = 0; at < total; fields++) {
        const head = read(at, HEAD_BYTES);
        const tag = varint(head, 0, MAX_TAG_BYTES);
        if (tag === null || fields >= MAX_FIELDS) {
            return null;
        }
        const field = tag[0] >>> 3;
        const type = tag[0] & 7;
        if (field === NAME_FIELD && (type !== BYTES || name !== null)) {
            return null;
        }
        if (type === BYTES) {
            const length = varint(head, tag[1], MAX_LENGTH_BYTES);
            if (length === null || at + length[1] + length[0] > total) {
                return null;
            }
            at += length[1];
            if (field === NAME_FIELD) {
                if (length[0] > MAX_NAME_BYTES) {
                    return null;
                }
                name = read(at, length[0]).toString('utf8');
            }
            at += length[0];
        } else if (type === VARINT) {
            const skipped = varint(head, tag[1], 10);
            if (skipped === null) {
                return null;
            }
            at += skipped[1];
        } else if (type === FIXED64) {
            at += tag[1] + 8;
        } else if (type === FIXED32) {
            at += tag[1] + 4;
        } else {
            return null;
        }
    }
    return at === total ? name : null;
}

function nameInFile(path) {
    const file = fs.openSync(path);
    try {
        return modelName((at, size) => {
            const bytes = Buffer.alloc(size);
            return bytes.subarray(0, fs.readSync(file, bytes, 0, size, at));
        }, fs.fstatSync(file).size);
    } finally {
        fs.closeSync(file);
    }
}

function calledModel(r) {
    const path = r.variables.request_body_file;
    // Without a body there is none.
    const name = path ? nameInFile(path) : null;
    return PUBLIC_MODELS.indexOf(name) >= 0 ? name : null;
}

// ModelInfer: each model has its own rules.
function infer(r) {
    const name = calledModel(r);
    if (name === null) {
        r.return(404);
    } else {
        r.internalRedirect('@grpc_' + name);
    }
}

// ModelReady and ModelMetadata.
function describe(r) {
    if (calledModel(r) === null) {
        r.return(404);
    } else {
        r.internalRedirect('@grpc_described');
    }
}

export default {infer, describe};

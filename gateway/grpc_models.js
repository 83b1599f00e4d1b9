// Which model a gRPC call is for. Over HTTP the path says it; in gRPC it stands inside the
// message, in field 1 of ModelInferRequest, ModelReadyRequest and ModelMetadataRequest. Only calls
// for public models go on, each to the location with its model's rules.

const PUBLIC_MODELS = ['product_match', 'product_ingest', 'product_feedback'];
const NAME_FIELD = 1;
const FRAME_HEADER_BYTES = 5;
// No message of the protocol has a field number that takes more.
const MAX_TAG_BYTES = 2;
const MAX_LENGTH_BYTES = 5;

const VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5;

// Varint at an offset: [value, next offset]; null if it is cut off or too long.
function varint(body, at, maxBytes) {
    let value = 0;
    for (let i = 0; i < maxBytes && at + i < body.length; i++) {
        const byte = body[at + i];
        value += (byte & 0x7f) * Math.pow(2, 7 * i);
        if (byte < 0x80) {
            return [value, at + i + 1];
        }
    }
    return null;
}

// The model of a call's body (one uncompressed frame with one message); null if it is none of
// that, or names no model or several. A server takes the last of several.
function modelName(body) {
    if (body.length < FRAME_HEADER_BYTES || body[0] !== 0
        || body.readUInt32BE(1) !== body.length - FRAME_HEADER_BYTES) {
        return null;
    }
    let name = null;
    let at = FRAME_HEADER_BYTES;
    while (at < body.length) {
        const tag = varint(body, at, MAX_TAG_BYTES);
        if (tag === null) {
            return null;
        }
        const field = tag[0] >>> 3;
        const type = tag[0] & 7;
        at = tag[1];
        if (field === NAME_FIELD && (type !== BYTES || name !== null)) {
            return null;
        }
        if (type === BYTES) {
            const length = varint(body, at, MAX_LENGTH_BYTES);
            if (length === null || length[1] + length[0] > body.length) {
                return null;
            }
            at = length[1] + length[0];
            if (field === NAME_FIELD) {
                name = body.toString('utf8', length[1], at);
            }
        } else if (type === VARINT) {
            const skipped = varint(body, at, 10);
            if (skipped === null) {
                return null;
            }
            at = skipped[1];
        } else if (type === FIXED64) {
            at += 8;
        } else if (type === FIXED32) {
            at += 4;
        } else {
            return null;
        }
    }
    return at === body.length ? name : null;
}

function calledModel(r) {
    const body = r.requestBuffer;
    const name = body ? modelName(body) : null;
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

export default {infer, describe, modelName};

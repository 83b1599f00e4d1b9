// Products' pictures as files that a page can show: GET /pictures/<sha256>?size=320.
//
// The call goes to product_picture as infer with a binary answer, which is some JSON, four bytes that
// say how long the picture is, and the picture. The filters here cut off what stands before the
// picture as it comes by, so an answer takes no more memory than any other.

import crypto from 'crypto';

// bls_models/picture/request.py has the first, the last size and the types too.
const LEAST_SIZE = 16;
// Sizes between these are rounded up: of each picture so few have to be made, whatever is asked for.
const SIZES = [64, 96, 128, 192, 256, 320, 384, 512, 640, 768, 1024, 1536, 2048];
const TYPES = {webp: 'image/webp', jpeg: 'image/jpeg'};
const LENGTH_BYTES = 4;
// A file of a name never changes.
const YEAR_SECONDS = 31536000;

// Of this request's answer: bytes that still stand before the picture.
let before = 0;

function now() {
    return Math.floor(Date.now() / 1000);
}

// The longest side; null for the picture's own, and undefined for one that cannot be had.
function size(r) {
    const text = r.variables.arg_size || '';
    if (text === '') {
        return null;
    }
    const asked = /^[0-9]{1,4}$/.test(text) ? Number(text) : NaN;
    return asked >= LEAST_SIZE ? SIZES.find((most) => asked <= most) : undefined;
}

function format(r) {
    return r.variables.arg_format || 'webp';
}

// Takes as long wherever two texts of one length differ.
function same(first, second) {
    let apart = first.length ^ second.length;
    for (let i = 0; i < second.length; i++) {
        apart |= first.charCodeAt(i) ^ second.charCodeAt(i);
    }
    return apart === 0;
}

// bls_models/picture_links.py has the same.
function signature(secret, picture, expires) {
    return crypto.createHmac('sha256', secret).update(picture + ' ' + expires).digest('hex');
}

// Whether the link is a signed one, and still good.
function isSigned(r) {
    const secret = r.variables.picture_secret;
    const expires = r.variables.arg_expires || '';
    if (!secret || !/^[0-9]{1,12}$/.test(expires)) {
        return false;
    }
    const right = signature(secret, r.variables.picture, expires);
    return same(r.variables.arg_signature || '', right) && Number(expires) > now();
}

// The status of a request that does not go on, with why; empty for one that does.
function refusal(r) {
    if (!r.variables.client && !isSigned(r)) {
        return r.variables.arg_signature ? '403' : '401';
    }
    if (size(r) === undefined) {
        return '400';
    }
    if (!TYPES.hasOwnProperty(format(r))) {
        return '400';
    }
    // What this names never changes, so whoever has it has it all.
    const known = (r.headersIn['If-None-Match'] || '').split(/ *, */);
    return known.some((tag) => tag.replace(/^W\//, '') === etag(r)) ? '304' : '';
}

function etag(r) {
    const longest = size(r);
    return `"${r.variables.picture}-${longest === null ? 'whole' : longest}-${format(r)}"`;
}

// How long whoever has it may keep it. A link's page is another one when it has ended.
function lifetime(r) {
    if (r.variables.client) {
        return `private, max-age=${YEAR_SECONDS}, immutable`;
    }
    const left = Math.min(Math.max(Number(r.variables.arg_expires) - now(), 0), YEAR_SECONDS);
    return `public, max-age=${left}, immutable`;
}

// The body of the call.
function call(r) {
    const longest = size(r);
    const bytes = (name, value) => ({name, datatype: 'BYTES', shape: [1, 1], data: [value]});
    const inputs = [
        bytes('sha256', r.variables.picture),
        bytes('format', format(r)),
        bytes('encoding', 'raw'),
    ];
    if (longest !== null) {
        inputs.push({name: 'size', datatype: 'INT32', shape: [1, 1], data: [longest]});
    }
    const outputs = [{name: 'picture', parameters: {binary_data: true}}];
    return JSON.stringify({inputs, outputs});
}

function header(r) {
    // An answer that broke off may have left some.
    before = 0;
    if (r.status >= 400) {
        // It is JSON, whatever Triton calls it.
        r.headersOut['Content-Type'] = 'application/json';
    }
    const json = Number(r.headersOut['Inference-Header-Content-Length']);
    if (r.status !== 200 || !json) {
        return;
    }
    before = json + LENGTH_BYTES;
    r.headersOut['Content-Length'] = String(Number(r.headersOut['Content-Length']) - before);
    r.headersOut['Content-Type'] = TYPES[format(r)];
    delete r.headersOut['Inference-Header-Content-Length'];
}

function body(r, data, flags) {
    const skipped = Math.min(before, data.length);
    before -= skipped;
    r.sendBuffer(data.subarray(skipped), flags);
    if (before === 0) {
        // The rest goes by without this: what is sent from here stays in memory until the end.
        r.done();
    }
}

export default {refusal, etag, lifetime, call, header, body};

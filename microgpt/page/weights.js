// The weights as microgpt/page/weights.py packs them: integers of a few bits, a scale for each row, in base64.
"use strict";

function bytesOf(base64) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

// n integers of `bits` bits, the lowest bit of the first one first; 2^(bits - 1) stands for 0.
function integersOf(bytes, n, bits) {
  const values = new (bits <= 8 ? Int8Array : bits <= 16 ? Int16Array : Int32Array)(n);
  const mask = 2 ** bits - 1, zero = 2 ** (bits - 1);
  for (let i = 0, next = 0, buffer = 0, have = 0; i < n; i++) {
    for (; have < bits; have += 8) buffer |= bytes[next++] << have;
    values[i] = (buffer & mask) - zero;
    buffer >>>= bits;
    have -= bits;
  }
  return values;
}

// Rows of a matrix, of which those that are 0 may be left out.
class Rows {
  constructor({ shape, bits, values, scales, kept }) {
    [this.n, this.size] = shape;
    this.scales = new Float32Array(bytesOf(scales).buffer);
    this.values = integersOf(bytesOf(values), this.scales.length * this.size, bits);
    this.index = null;  // of each row among those that are kept; -1: it is 0
    if (kept) {
      const bytes = bytesOf(kept);  // a bit for each row, the first one lowest
      let number = 0;
      this.index = Int32Array.from({ length: this.n }, (_, i) => (bytes[i >> 3] >> (i & 7) & 1 ? number++ : -1));
    }
  }

  addRow(row, x) {
    const i = this.index ? this.index[row] : row;
    if (i < 0) return;
    const scale = this.scales[i];
    for (let j = 0, place = i * this.size; j < this.size; j++) x[j] += Math.fround(this.values[place + j] * scale);
  }

  // The whole matrix, a Float32Array.
  matrix() {
    const all = new Float32Array(this.n * this.size);
    for (let i = 0; i < this.n; i++) this.addRow(i, all.subarray(i * this.size, (i + 1) * this.size));
    return all;
  }
}

// name → packed matrix, as the page holds them, as the weights of a GPT.
function unpackWeights(packed) {
  return Object.fromEntries(Object.entries(packed).map(([name, matrix]) => {
    const rows = new Rows(matrix);
    return [name, name.startsWith("ngram_embedding") ? rows : rows.matrix()];
  }));
}

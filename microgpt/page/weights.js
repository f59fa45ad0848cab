// The weights as microgpt/page/weights.py packs them: base64 → Float32Array, and tables of which few rows are kept.
"use strict";

function bytesOf(base64) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

// Numbers of float16, as their bits (Uint16Array) → Float32Array. 2^(exponent - 25) is the value of the last bit.
function fromFloat16(bits) {
  const power = Array.from({ length: 32 }, (_, exponent) => 2 ** (Math.max(1, exponent) - 25));
  return Float32Array.from(bits, h => {
    const exponent = (h >> 10) & 31, size = ((exponent ? 1024 : 0) + (h & 1023)) * power[exponent];
    return h >> 15 ? -size : size;
  });
}

function valuesOf({ format, values }) {
  const { buffer } = bytesOf(values);
  if (format === "float16") return fromFloat16(new Uint16Array(buffer));
  return format === "int8" ? new Int8Array(buffer) : new Float32Array(buffer);
}

// Rows of a matrix, of which those that are 0 may be left out. A row of int8 is multiplied by its scale.
class Rows {
  constructor(packed) {
    [this.n, this.size] = packed.shape;
    this.values = valuesOf(packed);
    this.scales = packed.scales ? new Float32Array(bytesOf(packed.scales).buffer) : null;
    this.index = null;  // of each row among those that are kept; -1: it is 0
    if (packed.kept) {
      const kept = bytesOf(packed.kept);  // a bit for each row, the first one lowest
      let number = 0;
      this.index = Int32Array.from({ length: this.n }, (_, i) => (kept[i >> 3] >> (i & 7) & 1 ? number++ : -1));
    }
  }

  addRow(row, x) {
    const i = this.index ? this.index[row] : row;
    if (i < 0) return;
    const scale = this.scales ? this.scales[i] : 1;
    for (let j = 0, place = i * this.size; j < this.size; j++) x[j] += Math.fround(this.values[place + j] * scale);
  }

  // The whole matrix, a Float32Array.
  matrix() {
    if (!this.scales && !this.index) return this.values;
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

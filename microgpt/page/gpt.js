// The forward pass of microgpt/model/transformer.py for one token at a time, with a key/value cache.
//
// Names are those of the torch model. C = n_embd, H = n_head, D = C / H, V = vocab_size. A weight is a Float32Array, the
// rows of its matrix one after the other; sums are float64, results float32.
"use strict";

const EPS = 1e-5;

const ACTIVATIONS = {
  relu: x => (x > 0 ? x : 0),
  relu_squared: x => (x > 0 ? x * x : 0),
  gelu: x => 0.5 * x * (1 + erf(x / Math.SQRT2)),
};

// The error function, with an error below 1.2e-7 (Numerical Recipes, 2nd edition, section 6.2).
function erf(x) {
  const t = 1 / (1 + 0.5 * Math.abs(x));
  const c = [-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587,
    -0.82215223, 0.17087277];
  const complement = t * Math.exp(-x * x + c.reduceRight((sum, a) => sum * t + a));
  return x >= 0 ? 1 - complement : complement - 1;
}

// out = weight · x: weight (out.length, x.length). Four rows and two columns at once keep the processor busy.
function linear(weight, x, out) {
  const n = x.length, even = n - (n % 2), whole = out.length - (out.length % 4);
  for (let i = 0; i < whole; i += 4) {
    const p = i * n, q = p + n, r = q + n, s = r + n;
    let a = 0, b = 0, c = 0, d = 0;
    for (let j = 0; j < even; j += 2) {
      const u = x[j], v = x[j + 1];
      a += weight[p + j] * u + weight[p + j + 1] * v;
      b += weight[q + j] * u + weight[q + j + 1] * v;
      c += weight[r + j] * u + weight[r + j + 1] * v;
      d += weight[s + j] * u + weight[s + j + 1] * v;
    }
    const last = even < n ? x[even] : 0, end = even < n ? even : 0;
    out[i] = a + weight[p + end] * last;
    out[i + 1] = b + weight[q + end] * last;
    out[i + 2] = c + weight[r + end] * last;
    out[i + 3] = d + weight[s + end] * last;
  }
  for (let i = whole; i < out.length; i++) {
    let sum = 0;
    for (let j = 0; j < n; j++) sum += weight[i * n + j] * x[j];
    out[i] = sum;
  }
  return out;
}

// RMSNorm without weights of the elements start … start + size - 1 of x, into the same places of out.
function norm(x, out, start = 0, size = x.length) {
  let sum = 0;
  for (let i = start; i < start + size; i++) sum += x[i] * x[i];
  const scale = 1 / Math.sqrt(sum / size + EPS);
  for (let i = start; i < start + size; i++) out[i] = x[i] * scale;
  return out;
}

function addTo(x, y) {
  for (let i = 0; i < x.length; i++) x[i] += y[i];
}

// Cosines and sines of rotary positions, float32 (block_size, D / 2): position t turns pair i by t * 10000^(-2i / D).
function rotaryTable(block_size, D) {
  const half = D / 2, cos = new Float32Array(block_size * half), sin = new Float32Array(block_size * half);
  for (let t = 0; t < block_size; t++) {
    for (let i = 0; i < half; i++) {
      const angle = Math.fround(t * Math.fround(10000 ** (-2 * i / D)));
      cos[t * half + i] = Math.cos(angle);
      sin[t * half + i] = Math.sin(angle);
    }
  }
  return { cos, sin };
}

// Rotate each pair of channels (i, i + D / 2) of a head, which begins at `start`, by the angle of position t.
function rotate(x, start, D, { cos, sin }, t) {
  const half = D / 2;
  for (let i = 0, place = t * half; i < half; i++, place++) {
    const a = x[start + i], b = x[start + half + i];
    x[start + i] = a * cos[place] - b * sin[place];
    x[start + half + i] = b * cos[place] + a * sin[place];
  }
}

// Keys, values and tokens that a model has read. `attention[t]`, if kept, holds the weights (L, H, t + 1) of token t.
class Cache {
  constructor({ n_layer, n_embd, block_size }, keepAttention = false) {
    this.keys = Array.from({ length: n_layer }, () => new Float32Array(block_size * n_embd));
    this.values = Array.from({ length: n_layer }, () => new Float32Array(block_size * n_embd));
    this.tokens = [];
    this.attention = keepAttention ? [] : null;
  }
  get length() { return this.tokens.length; }
}

class Attention {
  constructor(config, weights, layer, rotary) {
    Object.assign(this, config, { layer, rotary, D: config.n_embd / config.n_head });
    for (const name of ["q", "k", "v", "proj"]) this[name] = weights[`blocks.${layer}.attention.${name}.weight`];
    this.query = new Float32Array(config.n_embd);
    this.y = new Float32Array(config.n_embd);
    this.scores = new Float64Array(config.block_size);
  }

  // x (C,) of the token at position t → out (C,).
  forward(x, t, cache, out) {
    const { n_embd: C, n_head: H, D, query, y, scores } = this;
    const keys = cache.keys[this.layer], values = cache.values[this.layer];
    const key = keys.subarray(t * C, (t + 1) * C);
    linear(this.q, x, query);
    linear(this.k, x, key);
    linear(this.v, x, values.subarray(t * C, (t + 1) * C));
    y.fill(0);
    for (let h = 0; h < H; h++) {
      const start = h * D;
      for (const head of [query, key]) {
        if (this.qk_norm) norm(head, head, start, D);
        if (this.rotary) rotate(head, start, D, this.rotary, t);
      }
      let largest = -Infinity, total = 0;
      for (let j = 0; j <= t; j++) {
        let dot = 0;
        for (let i = 0, place = j * C + start; i < D; i++) dot += query[start + i] * keys[place + i];
        scores[j] = dot / Math.sqrt(D);
        if (scores[j] > largest) largest = scores[j];
      }
      for (let j = 0; j <= t; j++) total += scores[j] = Math.exp(scores[j] - largest);
      for (let j = 0; j <= t; j++) {
        const weight = scores[j] / total;
        for (let i = 0, place = j * C + start; i < D; i++) y[start + i] += weight * values[place + i];
        if (cache.attention) cache.attention[t][(this.layer * H + h) * (t + 1) + j] = weight;
      }
    }
    return linear(this.proj, y, out);
  }
}

class MLP {
  constructor(config, weights, layer) {
    for (const name of ["fc", "proj"]) this[name] = weights[`blocks.${layer}.mlp.${name}.weight`];
    this.activation = ACTIVATIONS[config.activation];
    this.hidden = new Float32Array(4 * config.n_embd);
  }

  forward(x, out) {
    const { hidden, activation } = this;
    linear(this.fc, x, hidden);
    for (let i = 0; i < hidden.length; i++) hidden[i] = activation(hidden[i]);
    return linear(this.proj, hidden, out);
  }
}

// The sum of the embeddings of the n-grams that end at a token (microgpt/model/ngrams.py). `table.addRow(row, x)` adds a
// row of the table to x.
class NgramEmbedding {
  constructor(config, table) {
    Object.assign(this, { table, longest: config.ngrams, rows: BigInt(config.ngram_rows) });
  }

  // The rows of the table of the n-grams that end at tokens[t]. int64 arithmetic, as in torch.
  places(tokens, t) {
    const FACTOR = 0x1E3779B97F4A7C15n, int64 = x => BigInt.asIntN(64, x);
    const found = [];
    let total = BigInt(tokens[t] + 1);
    for (let distance = 1; distance < this.longest; distance++) {
      total = int64(total * FACTOR + BigInt(t >= distance ? tokens[t - distance] + 1 : 0));
      const mixed = int64((total ^ (total >> 31n)) * FACTOR) >> 17n;
      const row = ((mixed % this.rows) + this.rows) % this.rows;
      found.push(Number(row) + (distance - 1) * Number(this.rows));
    }
    return found;
  }

  addTo(x, tokens, t) {
    for (const row of this.places(tokens, t)) this.table.addRow(row, x);
  }
}

class GPT {
  constructor(config, weights) {
    const C = config.n_embd;
    this.config = config;
    this.token_embedding = weights["token_embedding.weight"];
    this.position_embedding = config.rotary ? null : weights["position_embedding.weight"];
    this.ngram_embedding = config.ngrams > 1 ? new NgramEmbedding(config, weights["ngram_embedding.weight"]) : null;
    this.head = weights["head.weight"];
    const rotary = config.rotary ? rotaryTable(config.block_size, C / config.n_head) : null;
    this.blocks = Array.from({ length: config.n_layer }, (_, layer) => (
      { attention: new Attention(config, weights, layer, rotary), mlp: new MLP(config, weights, layer) }));
    [this.x, this.normed, this.added] = [0, 1, 2].map(() => new Float32Array(C));
    this.logits = new Float32Array(this.head.length / C);
  }

  emptyCache(keepAttention = false) { return new Cache(this.config, keepAttention); }

  // The logits (V,) after one more token. They are overwritten by the next call.
  forward(token, cache) {
    const { x, normed, added } = this, t = cache.length;
    cache.tokens.push(token);
    if (cache.attention) cache.attention[t] = new Float32Array(this.config.n_layer * this.config.n_head * (t + 1));
    this.embed(token, t, cache);
    for (const { attention, mlp } of this.blocks) {
      addTo(x, attention.forward(norm(x, normed), t, cache, added));
      addTo(x, mlp.forward(norm(x, normed), added));
    }
    return linear(this.head, this.config.final_norm ? norm(x, normed) : x, this.logits);
  }

  // The input of the first block, into this.x.
  embed(token, t, cache) {
    const { x } = this, C = x.length;
    x.set(this.token_embedding.subarray(token * C, (token + 1) * C));
    if (this.ngram_embedding) this.ngram_embedding.addTo(x, cache.tokens, t);
    if (this.position_embedding) addTo(x, this.position_embedding.subarray(t * C, (t + 1) * C));
    norm(x, x);
  }
}

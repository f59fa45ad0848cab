// Sampling as in microgpt/model/generation.py: with the same seed and settings, the same tokens as sample.py.
"use strict";

// The generator of torch on the CPU: MT19937 (Matsumoto & Nishimura 1998).
class MersenneTwister {
  constructor(seed) {
    this.state = new Uint32Array(624);
    this.state[0] = seed;
    for (let i = 1; i < 624; i++) {
      const last = this.state[i - 1] ^ (this.state[i - 1] >>> 30);
      this.state[i] = Math.imul(1812433253, last) + i;
    }
    this.next = 624;
  }

  // 624 further numbers.
  twist() {
    const { state } = this;
    for (let i = 0; i < 624; i++) {
      const y = (state[i] & 0x80000000) | (state[(i + 1) % 624] & 0x7fffffff);
      state[i] = state[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.next = 0;
  }

  // Uniform in [0, 1), a multiple of 2^-24, as torch.rand makes float32.
  uniform() {
    if (this.next === 624) this.twist();
    let y = this.state[this.next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    y ^= y >>> 18;
    return (y & 0xffffff) / 0x1000000;
  }
}

// One array of uniform numbers (max_tokens,) for each sample.
function randomDraws(n_samples, max_tokens, seed) {
  const generator = new MersenneTwister(seed);
  return Array.from({ length: n_samples }, () => Float64Array.from({ length: max_tokens }, () => generator.uniform()));
}

const descending = values => [...values.keys()].sort((a, b) => values[b] - values[a]);  // indices; stable

function softmax(logits, temperature) {
  const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const probs = Float64Array.from(logits, logit => Math.exp((logit - largest) / temperature));
  const total = probs.reduce((a, b) => a + b, 0);
  return probs.map(p => p / total);
}

// The distribution to sample from, (V,): likeliest only (temperature 0), the top_k likeliest and those tied with the
// k-th, then the fewest likeliest whose probabilities sum to top_p.
function probabilities(logits, { temperature, top_k = 0, top_p = 1 }) {
  if (temperature === 0) {
    const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity), first = logits.indexOf(largest);
    return Float64Array.from(logits, (_, i) => (i === first ? 1 : 0));
  }
  let kept = logits;
  if (top_k > 0 && top_k < logits.length) {
    const kth = Float64Array.from(logits).sort()[logits.length - top_k];
    kept = logits.map(logit => (logit < kth ? -Infinity : logit));
  }
  const probs = softmax(kept, temperature);
  if (top_p >= 1) return probs;
  let sum = 0;
  const nucleus = new Float64Array(probs.length);
  for (const i of descending(probs)) {
    sum += probs[i];
    const before = sum - probs[i];
    if (before < top_p || before <= 0) nucleus[i] = probs[i];
  }
  const total = nucleus.reduce((a, b) => a + b, 0);
  return nucleus.map(p => p / total);
}

// One token by inverting the CDF: the first whose cumulated probability exceeds the uniform number.
function draw(probs, uniform) {
  const cdf = Float64Array.from(probs);
  for (let i = 1; i < cdf.length; i++) cdf[i] += cdf[i - 1];
  const target = uniform * cdf[cdf.length - 1];
  return cdf.findIndex(sum => sum > target);
}

// Surprisal in bits of a token, by the model's own distribution (temperature 1, all tokens).
function surprisal(logits, token) {
  return -Math.log2(softmax(logits, 1)[token]);
}

// The model with the tokens that it has read, of which there may be more than its block holds.
class Context {
  constructor(model, keepAttention = false) {
    Object.assign(this, { model, keepAttention, cache: model.emptyCache(keepAttention), start: 0 });
  }

  // Read one more token. A full cache is emptied first, and the later half of the context is read again.
  read(token) {
    const { block_size } = this.model.config;
    let tokens = [token];
    if (this.cache.length === block_size) {
      const half = Math.max(1, Math.floor(block_size / 2));
      tokens = [...this.cache.tokens.slice(block_size - half + 1), token];
      this.start += block_size - half + 1;
      this.cache = this.model.emptyCache(this.keepAttention);
    }
    for (const next of tokens) this.logits = this.model.forward(next, this.cache);
    return this.logits;
  }
}

// A context that has read a prompt (ids, the first is BOS), or what of it fits a block.
function readPrompt(model, prompt, keepAttention = false) {
  const context = new Context(model, keepAttention), { block_size } = model.config;
  context.start = Math.max(0, prompt.length - block_size);
  for (const token of prompt.slice(-block_size)) context.read(token);
  return context;
}

// Continue `prompt` with one token for each number of `draws`, until `stop`. Yields {token, bits, logits}.
function* stream(model, prompt, draws, { stop = null, ...sampling }) {
  const context = readPrompt(model, prompt);
  for (const uniform of draws) {
    const token = draw(probabilities(context.logits, sampling), uniform);
    if (token === stop) return;
    yield { token, bits: surprisal(context.logits, token), context };
    context.read(token);
  }
}

// Texts ↔ tokens, as in microgpt/data/tokenizer.py and microgpt/model/text_generator.py, and which documents are known.
"use strict";

class Tokenizer {
  // `text`: chars, separator (the raw text of a BOS), ends_at_bos, form, lowercase, replace: [[old, new], …].
  constructor(text) {
    Object.assign(this, text, { itos: [...text.chars] });
    this.stoi = new Map(this.itos.map((char, i) => [char, i]));
    this.bos = this.itos.length;
  }

  unknown(text) { return [...new Set(text)].filter(char => !this.stoi.has(char)); }

  normaliseAs(text, lowercase) {
    const withNewlines = text => text.replace(/\r\n?/g, "\n");
    if (this.form !== "none") text = text.normalize(this.form);
    if (lowercase) text = text.toLowerCase();
    for (const [before, after] of this.replace) {
      text = before.includes("\r") ? text : withNewlines(text);
      text = text.replaceAll(before, () => after);  // as a text, `after` would give $ a meaning
    }
    return withNewlines(text);
  }

  // The text as the corpus was normalised; in lower case too if the corpus has no capitals, and more is known so.
  normalise(text) {
    const normalised = this.normaliseAs(text, this.lowercase);
    if (this.chars !== this.chars.toLowerCase()) return normalised;
    const lower = this.normaliseAs(text, true);
    return this.unknown(lower).length < this.unknown(normalised).length ? lower : normalised;
  }

  // A prompt as the model reads it, without a separator of the user's own before it.
  prompt(text) {
    const normalised = this.normalise(text);
    if (!this.own) return normalised;
    const after = this.separator.startsWith("\n") && normalised.startsWith("\n") ? normalised.slice(1) : normalised;
    const own = this.separator.replace(/^\n+|\n+$/g, "");
    return after.startsWith(own) ? after.slice(own.length) : after;
  }

  // The ids of BOS and a prompt that is normalised. Characters that the corpus lacks are left out.
  promptIds(prompt) {
    const between = this.separator === "\n\n" ? /\n{2,}/ : this.separator;
    const parts = this.ends_at_bos ? [prompt] : prompt.split(between);
    return parts.flatMap(part => [this.bos, ...[...part].filter(c => this.stoi.has(c)).map(c => this.stoi.get(c))]);
  }

  decode(token) { return token === this.bos ? this.separator : this.itos[token]; }
}

// A Bloom filter of documents (microgpt/page/documents.py): "no" is certain, a few "yes" are wrong.
class Documents {
  constructor(filter) {
    Object.assign(this, filter, { bits: bytesOf(filter.bits) });  // n_bits, n_hashes, documents, false_positives
  }

  // Whether it holds the document with these ids.
  has(ids) {
    const hash = hashTokens(ids), first = Number(hash & 0xffffffffn), step = Number(hash >> 32n);
    for (let i = 0; i < this.n_hashes; i++) {
      const bit = (first + i * step) % this.n_bits;  // exact: below 2^53
      if (!(this.bits[Math.floor(bit / 8)] >> (bit % 8) & 1)) return false;
    }
    return true;
  }
}

const uint64 = x => BigInt.asUintN(64, x);

// The finalizer of SplitMix64 (Steele, Lea & Flood 2014).
function mix64(x) {
  x = uint64((x ^ (x >> 30n)) * 0xBF58476D1CE4E5B9n);
  x = uint64((x ^ (x >> 27n)) * 0x94D049BB133111EBn);
  return x ^ (x >> 31n);
}

// The hash of hash_tokens in microgpt/page/documents.py.
function hashTokens(ids) {
  let hash = 0n;
  for (const token of ids) hash = mix64(uint64((hash ^ BigInt(token + 1)) * 0x9E3779B97F4A7C15n));
  return hash;
}

// The playground: a prompt, the settings, the next character as bars, and the samples as they are written.
"use strict";

const MIN_BUSY = 28, MAX_BUSY = 120;  // milliseconds of computing before the page is drawn again
const BARS = 12, SHADES = 9, MAX_BITS = 6;  // characters that are listed; colours; bits of the last colour

const $ = id => document.getElementById(id);
const nextFrame = () => new Promise(requestAnimationFrame);
const pause = seconds => new Promise(resolve => setTimeout(resolve, 1000 * seconds));
const count = number => number.toLocaleString("en");

function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function percent(p) {
  if (p === 0) return "0";
  return p < 0.001 ? "<0.1%" : `${(100 * p).toFixed(p < 0.0995 ? 1 : 0)}%`;
}

class Play {
  // `run`: data, tokenizer, model, known. `onText(ids)` is called with what was typed or written.
  constructor(run, onText) {
    Object.assign(this, { run, onText, job: null });
    const { sampling, seed, text } = run.data;
    $("prompt").value = sampling.prompt;
    $("prompt").rows = text.one_line ? 1 : 3;
    $("prompt").placeholder = `leave this empty, or begin a text; ${text.one_line ? "Enter" : "Ctrl+Enter"} writes`;
    $("output").classList.toggle("running-text", !text.ends_at_bos);  // of a fixed height: nothing moves below it
    for (const [name, value] of Object.entries({ ...sampling, seed, pace: 0 })) {
      const input = this.input(name);
      if (input) Object.assign(input, { value, oninput: () => this.changed() });
    }
    $("prompt").oninput = () => { this.changed(); this.onText(this.promptIds()); };
    $("prompt").onkeydown = event => {
      if (event.key === "Enter" && (text.one_line || event.ctrlKey || event.metaKey)) { event.preventDefault(); this.write(); }
    };
    $("write").onclick = () => this.write();
    $("another").onclick = () => { this.input("seed").value = (this.settings().seed + 1) % 2 ** 31; this.write(); };
    $("stop").onclick = () => this.stop();
    $("output").onpointerover = $("output").onclick = ({ target }) => { $("detail").textContent = target.title || ""; };
    this.showLegend();
    this.changed();
    this.onText(this.promptIds());
  }

  input(name) { return document.querySelector(`#settings [name=${name}]`); }

  // The settings as they are typed; what is no number in its range is as in the run.
  settings() {
    const own = { ...this.run.data.sampling, seed: this.run.data.seed, pace: 0 };
    return Object.fromEntries(["temperature", "top_k", "top_p", "seed", "n_samples", "max_tokens", "pace"].map(name => {
      const input = this.input(name), value = Number(input.value);
      const whole = !["temperature", "top_p"].includes(name);
      const valid = input.value !== "" && Number.isFinite(value) && value >= Number(input.min || 0)
        && value <= Number(input.max || Infinity) && (!whole || Number.isInteger(value));
      return [name, valid ? value : own[name]];
    }));
  }

  prompt() { return this.run.tokenizer.prompt($("prompt").value); }
  promptIds() { return this.run.tokenizer.promptIds(this.prompt()); }

  stopToken() {
    const { tokenizer, data } = this.run;
    return tokenizer.ends_at_bos || data.sampling.one_document ? tokenizer.bos : null;
  }

  // What depends on the prompt and the settings: the next character, the unknown characters, the command.
  changed() {
    this.stop();
    const { tokenizer, model, data } = this.run, prompt = this.prompt();
    const separators = tokenizer.ends_at_bos ? "" : tokenizer.separator;
    const unknown = tokenizer.unknown(prompt).filter(char => !separators.includes(char));
    $("unknown").hidden = !unknown.length;
    $("unknown").textContent = `The corpus holds no ${unknown.map(char => JSON.stringify(char)).join(", ")}: left out.`;
    this.showBars(readPrompt(model, this.promptIds()).logits);
    $("command").textContent = this.command(data);
  }

  // The command of sample.py that writes the same.
  command({ command, sampling, seed }) {
    const now = this.settings(), typed = $("prompt").value, words = [command];
    const quoted = typed.replaceAll("\n", "\\n").replaceAll("'", "\\'");
    if (typed !== sampling.prompt) words.push(/[\n'\\]/.test(typed) ? `prompt=$'${quoted}'` : `prompt='${typed}'`);
    if (now.seed !== seed) words.push(`seed=${now.seed}`);
    for (const name of ["temperature", "top_k", "top_p", "n_samples", "max_tokens"]) {
      if (now[name] !== sampling[name]) words.push(`sampling.${name}=${now[name]}`);
    }
    return words.join(" ");
  }

  // The likeliest next characters: wide bars are the probabilities of the model, narrow ones those of a draw.
  showBars(logits) {
    const { tokenizer } = this.run;
    const drawn = probabilities(logits, this.settings()), own = softmax(logits, 1);
    const full = Math.max(0.25, ...drawn, ...own);  // the probability of a bar of full width
    const rows = descending(drawn).slice(0, BARS).sort((a, b) => drawn[b] - drawn[a] || own[b] - own[a]);
    $("bars").replaceChildren(...rows.map(token => {
      const row = element("tr"), button = element("button", tokenizer.names[token]), bar = element("div", "", "bar");
      button.disabled = token === tokenizer.bos && tokenizer.ends_at_bos;
      button.onclick = () => {
        $("prompt").value += tokenizer.decode(token);
        $("prompt").oninput();
      };
      for (const p of [own[token], drawn[token]]) bar.append(element("i"));
      [...bar.children].forEach((part, i) => { part.style.width = `${100 * (i ? drawn : own)[token] / full}%`; });
      for (const cell of [button, bar, percent(drawn[token])]) {
        const td = element("td");
        td.append(cell);
        row.append(td);
      }
      return row;
    }));
  }

  showLegend() {
    const { tokenizer, known } = this.run, rate = known && percent(known.training.false_positives);
    $("legend-end").textContent = tokenizer.ends_at_bos ? "⏎ ends the text." : "⏎ ends a paragraph.";
    $("legend-marks").textContent = known
      ? `“New”: not among the ${count(known.training.documents)} training and ${count(known["held-out"].documents)}`
        + ` held-out ${tokenizer.unit}, which the page holds as Bloom filters: about ${rate} of what is new is taken for known.`
      : "";
  }

  stop() {
    this.job = null;
    $("stop").disabled = true;
  }

  // Write the samples, a character at a time. The page is drawn about 30 times per second; where drawing takes long, less
  // often, so that most of the time is left for computing.
  async write() {
    this.stop();
    const job = this.job = {}, settings = this.settings(), ids = this.promptIds(), { model } = this.run;
    $("stop").disabled = false;
    $("output").replaceChildren();
    let n = 0, frame = performance.now(), busy = MIN_BUSY, written = [];
    const began = frame;
    for (const draws of randomDraws(settings.n_samples, settings.max_tokens, settings.seed)) {
      const place = this.newSample(settings.n_samples);
      written = [];
      for (const { token, bits, context } of stream(model, ids, draws, { ...settings, stop: this.stopToken() })) {
        written.push(token);
        place.append(this.character(token, bits));
        n++;
        const computed = performance.now();
        if (settings.pace || computed - frame > busy) {
          this.showBars(context.logits);
          this.showSpeed(n, began);
          $("output").scrollTop = $("output").scrollHeight;
          await (settings.pace ? pause(1 / settings.pace) : nextFrame());
          if (this.job !== job) return;
          frame = performance.now();
          busy = Math.min(MAX_BUSY, Math.max(MIN_BUSY, 3 * (frame - computed)));
        }
      }
      place.append(...this.mark([...ids, ...written], written.length >= settings.max_tokens));
    }
    this.showSpeed(n, began);
    $("output").scrollTop = 0;
    this.showBars(readPrompt(model, ids).logits);
    this.onText([...ids, ...written]);
    this.stop();
  }

  newSample(n_samples) {
    const place = element("div", "", this.run.data.text.one_line || n_samples === 1 ? "sample" : "sample several");
    place.append(element("b", this.prompt()));
    $("output").append(place);
    return place;
  }

  character(token, bits) {
    const shade = Math.min(SHADES - 1, Math.round(bits / MAX_BITS * (SHADES - 1)));
    const span = element("span", this.run.tokenizer.decode(token), `s${shade}`);
    span.title = `${this.run.tokenizer.names[token]}: ${bits.toFixed(2)} bits, probability ${percent(2 ** -bits)}`;
    return span;
  }

  // The mark of a whole document, as sample.py's log has it: new, or in a split of the corpus.
  mark(ids, isCut) {
    const { tokenizer, known } = this.run;
    if (!tokenizer.ends_at_bos) return [];
    if (isCut) return [element("i", `cut off after ${this.settings().max_tokens}`, "mark")];
    if (!known) return [];
    const document = ids.filter(token => token !== tokenizer.bos);
    const split = Object.keys(known).find(name => known[name].has(document));
    return [element("i", split ? `in the ${split} set` : "new", split ? "mark" : "mark new")];
  }

  showSpeed(n, began) {
    const seconds = (performance.now() - began) / 1000;
    $("speed").textContent = `${count(n)} characters in ${seconds.toFixed(2)} s: ${count(Math.round(n / seconds))} per second in this browser.`;
  }
}

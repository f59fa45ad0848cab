// The attention of any head over the last text, recomputed by the model in the page.
"use strict";

class AttentionView {
  constructor(run) {
    Object.assign(this, { run, head: -1, chosen: 0, ids: [] });  // head -1: the mean of all heads
    $("attention-note").textContent =
      `The model sees at most ${run.data.config.block_size} characters at once. 2.1 is head 1 of layer 2.`;
    $("tiles").onkeydown = event => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.choose(Math.min(Math.max(0, this.chosen + step), this.tiles.length - 1));
      this.tiles[this.chosen].focus();
    };
    this.showHeads();
  }

  // Show the text of these ids, or what of it fits the block.
  show(ids) {
    const { model, tokenizer } = this.run;
    this.cache = readPrompt(model, ids, true).cache;
    const { tokens } = this.cache;
    this.tiles = tokens.map((token, i) => {
      const tile = element("button");
      tile.append(element("b", tokenizer.names[token]), element("i"));
      tile.onclick = tile.onpointerenter = () => this.choose(i);
      return tile;
    });
    $("tiles").replaceChildren(...this.tiles.flatMap((tile, i) => (
      tokenizer.names[tokens[i]] === "\\n" || (tokens[i] === tokenizer.bos && i > 0)
        ? [tile, element("span", "", "break")] : [tile])));
    this.choose(tokens.length - 1);
  }

  // The weights (i + 1,) of the chosen head, or of the mean of all, when the token i was read.
  weights(i) {
    const { n_layer, n_head } = this.run.data.config, all = this.cache.attention[i], n = i + 1;
    if (this.head >= 0) return all.subarray(this.head * n, (this.head + 1) * n);
    const heads = n_layer * n_head;
    return Array.from({ length: n }, (_, j) => {
      let sum = 0;
      for (let h = 0; h < heads; h++) sum += all[h * n + j];
      return sum / heads;
    });
  }

  choose(i) {
    this.chosen = i;
    const weights = this.weights(i);
    this.tiles.forEach((tile, j) => {
      const strip = tile.lastChild, weight = j <= i ? weights[j] : 0;
      strip.textContent = weight >= 0.005 ? Math.round(100 * weight) : "";
      strip.style.background = weight ? `rgb(var(--attention) / ${0.6 * Math.sqrt(weight)})` : "";  // √: small ones stay visible; 0.6: so does the text
      tile.setAttribute("aria-pressed", j === i);
      tile.tabIndex = j === i ? 0 : -1;
      tile.classList.toggle("later", j > i);
    });
  }

  showHeads() {
    const { n_layer, n_head } = this.run.data.config, buttons = [];
    for (let head = -1; head < n_layer * n_head; head++) {
      const name = head < 0 ? "mean of all heads" : `${Math.floor(head / n_head) + 1}.${head % n_head + 1}`;
      const button = element("button", name);
      button.setAttribute("aria-pressed", head === this.head);
      button.onclick = () => { this.head = head; this.showHeads(); this.choose(this.chosen); };
      buttons.push(button);
    }
    $("heads").replaceChildren(...buttons);
  }
}

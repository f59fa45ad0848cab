// Builds the page of the chosen run: unpacks its model, and fills in what it measured.
"use strict";

// A run of the page: its data, its model with the weights unpacked, its tokenizer and the documents it knows.
function openRun(data) {
  const known = data.known
    && Object.fromEntries(Object.entries(data.known).map(([split, filter]) => [split, new Documents(filter)]));
  return { data, known, tokenizer: new Tokenizer(data.text), model: new GPT(data.config, unpackWeights(data.weights)) };
}

function about({ dataset, note, parameters, result }) {
  const { val_loss, val_bpc, val_tokens, step, seconds, device } = result;
  const trained = step ? ` trained for ${count(step)} steps${seconds ? ` in ${count(Math.round(seconds))} s (${device})` : ""}` : "";
  const bpc = val_bpc === null ? "" : ` (${val_bpc.toFixed(3)} bits per character)`;
  const tokens = val_tokens === null ? "" : `, ${count(val_tokens)} tokens`;
  const loss = val_loss === null ? "" : ` It reaches ${val_loss.toFixed(3)} nats per token${bpc} on the validation split${tokens}.`;
  return `A character-level GPT with ${count(parameters)} weights,${trained} on ${dataset}${note ? ` (${note})` : ""}.${loss}`;
}

function showTraining({ data }) {
  const chart = new LossChart($("chart"), data, step => showStep(step));
  const atRest = data.baselines && Object.keys(data.baselines).length
    ? "Losses in nats per token; dashed: n-gram models of the same corpus, on the same validation split." : "Losses in nats per token.";
  const showStep = step => { $("chart-note").textContent = step === null ? atRest : chart.sentence(step); };
  showStep(null);
  const { samples } = data, slider = $("step");
  $("over-time").hidden = !samples.length;
  slider.max = samples.length - 1;
  slider.value = samples.length - 1;
  slider.oninput = () => {
    const [step, texts] = samples[slider.value];
    $("step-name").textContent = `${count(step)} ${step === 1 ? "step" : "steps"}`;
    $("step-samples").textContent = texts.join(texts.some(text => text.includes("\n")) ? "\n\n" : "\n");
    chart.mark(step);
  };
  if (samples.length) slider.oninput();
  const lines = [...data.sentences.map(line => element("li", line[0].toUpperCase() + line.slice(1))), ...data.findings.map(line => element("li", `warning: ${line}`, "finding"))];
  $("sentences").replaceChildren(...lines);
}

function showCard({ card, dataset, note }) {
  const facts = { corpus: dataset, ...(note ? { holds: note } : {}), ...(card || { card: "the corpus was not at hand when this page was made" }) };
  $("card").replaceChildren(...Object.entries(facts).map(([name, value]) => {
    const row = element("tr");
    row.append(element("td", name), element("td", value));
    return row;
  }));
}

function showFidelity({ fidelity, weights }) {
  const bits = [...new Set(Object.values(weights).map(matrix => matrix.bits))].join(" and ");
  const held = `The weights in this page are integers of ${bits} bits with a scale for each row; those of the run are float32.`;
  const changed = fidelity && ` What that changes, on the first ${count(fidelity.tokens)} tokens of the validation split:`
    + ` a loss of ${fidelity.page_loss.toFixed(5)} nats per token in place of ${fidelity.loss.toFixed(5)}, logits by at most`
    + ` ${fidelity.logits.toPrecision(2)}, and ${fidelity.draws < 1e-9 ? "no draw" : `one draw in ${count(Number((1 / fidelity.draws).toPrecision(2)))}`}.`;
  $("fidelity").textContent = held + (changed || "");
}

// The samples of sample.py with the settings of the run, drawn again: how many tokens are the same.
function compareWithReference({ data, model, tokenizer }) {
  const { sampling, reference, seed } = data, stop = tokenizer.ends_at_bos || sampling.one_document ? tokenizer.bos : null;
  const ids = tokenizer.promptIds(tokenizer.prompt(sampling.prompt));
  let n = 0, same = 0;
  randomDraws(reference.length, sampling.max_tokens, seed).forEach((draws, i) => {
    const written = [...stream(model, ids, draws, { ...sampling, stop })].map(({ token }) => tokenizer.decode(token)).join("");
    const expected = [...reference[i]], found = [...written];
    n += expected.length;
    const first = expected.findIndex((char, j) => char !== found[j]);
    same += first < 0 ? expected.length : first;
  });
  return { n, same };
}

function showCheck(run) {
  $("compare").hidden = !run.data.reference.length;
  $("checked").textContent = "";
  $("check").onclick = () => {
    const { n, same } = compareWithReference(run);
    $("checked").textContent = same === n
      ? `The same: all ${count(n)} characters that sample.py writes with the settings of the run.`
      : `${count(same)} of the ${count(n)} characters that sample.py writes come before a difference, which rounding the weights can make.`;
  };
}

let run;  // in view

function choose(script) {
  run = openRun(JSON.parse(script.textContent));
  $("title").textContent = run.data.dataset;
  $("about").textContent = about(run.data);
  const attention = new AttentionView(run);
  run.play = new Play(run, ids => attention.show(ids));
  showTraining(run);
  showCard(run.data);
  showFidelity(run.data);
  showCheck(run);
  $("yaml").textContent = run.data.yaml;
  run.play.write();
}

const scripts = document.querySelectorAll("script.run");
if ($("chooser")) $("chooser").onchange = () => choose(scripts[$("chooser").value]);
choose(scripts[0]);

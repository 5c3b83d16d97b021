// The console: one text while you type, a file, a model's card, the figures of the service.
// It asks this service only, and shows what it gets as text, never as HTML.
'use strict';

const $ = (id) => document.getElementById(id);

/** Make an element: classes after dots, properties, children. */
function make(name, properties = {}, ...children) {
  const [tag, ...classes] = name.split('.');
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(' ');
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const pause = (ms, signal) => new Promise((resolve, reject) => {
  const timer = setTimeout(resolve, ms);
  signal?.addEventListener('abort', () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
});
const whole = new Intl.NumberFormat('en');
const percent = (p) => (p > 0.9995 && p < 1 ? '99.9 %' : `${(p * 100).toFixed(p < 0.1 || p > 0.9 ? 1 : 0)} %`);
const plural = (count, noun) => `${whole.format(count)} ${noun}${count === 1 ? '' : 's'}`;

// --- the service

const KEY = 'valence-key';
let key = sessionStorage.getItem(KEY) || '';

class Refusal extends Error {
  /** An answer other than 200. `again` is when to ask again, in ms; null if that is no use. */
  constructor(status, detail, again) {
    super(detail);
    this.status = status;
    this.again = again;
  }
}

async function ask(path, body, signal) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const request = { headers, signal };
  if (body) {
    headers['Content-Type'] = 'application/json';
    Object.assign(request, { method: 'POST', body: JSON.stringify(body) });
  }
  let response;
  try {
    response = await fetch(path, request);
  } catch (error) {
    if (error.name === 'AbortError' || signal?.aborted) throw error;
    throw new Refusal(0, 'The service does not answer.', 1000);
  }
  if (response.ok) return response;
  let detail = `The service answered with status ${response.status}.`;
  try { detail = (await response.json()).detail || detail; } catch { /* not JSON */ }
  const busy = response.status === 429 || response.status === 503;
  const seconds = Number(response.headers.get('Retry-After')) || 1;
  const again = busy ? Math.min(seconds, 30) * 1000 : null;
  throw new Refusal(response.status, detail, again);
}

/** Ask until there is an answer; `tell` gets each reason why there is none yet. */
async function askUntil(path, body, signal, tell) {
  for (let wait = 500; ; wait = Math.min(wait * 2, 8000)) {
    try {
      return await (await ask(path, body, signal)).json();
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      if (error.status === 401) { tell(error); await keyGiven(signal); continue; }
      if (error.again === null) throw error;
      tell(error);
      await pause(error.status ? Math.max(error.again, wait) : wait, signal);
    }
  }
}

function explainRefusal(error) {
  if (error.status === 0) return 'The service does not answer. Trying again …';
  if (error.status === 401) return key ? 'The service does not take this API key.' : 'The service asks for an API key.';
  if (error.status === 429) return 'The service is busy. Trying again …';
  if (error.status === 503) return 'The service is starting or stopping. Trying again …';
  return `${error.message.charAt(0).toUpperCase()}${error.message.slice(1)}`;
}

function tell(error) {
  const words = error ? explainRefusal(error) : '';
  if ($('trouble').textContent !== words) $('trouble').textContent = words;
  $('trouble').hidden = !words;
  if (error?.status === 0) setState('lost', 'No answer');
  if (error?.status === 401 && askedFor !== key) {
    askedFor = key;
    openKeyDialog(`${words} A key is kept until you close this tab.`);
  }
}

function setState(kind, words) {
  $('state').className = `state ${kind}`;
  if ($('state-text').textContent !== words) $('state-text').textContent = words;
}

// --- the key

/** The key in place of which the page has asked for another: it asks once, until someone acts. */
let askedFor = null;
let keyWaiters = [];
const keyGiven = (signal) => new Promise((resolve, reject) => {
  keyWaiters.push(resolve);
  signal?.addEventListener('abort', () => reject(signal.reason), { once: true });
});

function openKeyDialog(why) {
  if (why) $('key-why').textContent = why;
  if (!$('key-dialog').open) { $('key').value = key; $('key-dialog').showModal(); }
}

$('key-button').addEventListener('click', () => openKeyDialog());
$('key-dialog').addEventListener('close', () => {
  const choice = $('key-dialog').returnValue;
  // A header has no characters beyond ASCII, and no key has.
  if (choice === 'use') key = $('key').value.replace(/[^\x21-\x7e]/g, '');
  else if (choice === 'forget') key = '';
  else return;
  askedFor = null;
  sessionStorage.setItem(KEY, key);
  $('key-dialog').returnValue = '';
  tell(null);
  const waiters = keyWaiters;
  keyWaiters = [];
  waiters.forEach((resolve) => resolve());
  refreshModels();
});

// --- tabs

const tabs = [...document.querySelectorAll('[role=tab]')];

function show(tab, focus) {
  for (const each of tabs) {
    const chosen = each === tab;
    each.setAttribute('aria-selected', String(chosen));
    each.tabIndex = chosen ? 0 : -1;
    $(each.getAttribute('aria-controls')).hidden = !chosen;
  }
  if (focus) tab.focus();
  history.replaceState(null, '', `#${tab.getAttribute('aria-controls')}`);
  if (tab.id === 'tab-model') showCard();
  if (tab.id === 'tab-service') pollFigures();
}

for (const [index, tab] of tabs.entries()) {
  tab.addEventListener('click', () => show(tab));
  tab.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -index, End: tabs.length - 1 - index }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    show(tabs[(index + step + tabs.length) % tabs.length], true);
  });
}

// --- models

let models = null;
const cards = new Map();

/** The choices of a list: each model, and each of its ready versions if there are several. */
function listChoices() {
  const choices = [];
  for (const model of models.models) {
    const ready = model.versions.filter((version) => version.state === 'ready');
    if (!ready.length) continue;
    const name = model.name + (model.default ? ' (default)' : '');
    choices.push({ value: model.name, words: name });
    if (ready.length > 1) {
      for (const { version } of ready) choices.push({ value: `${model.name}/${version}`, words: `${model.name}, version ${version}` });
    }
  }
  return choices;
}

function fill(select, choices, fallback) {
  const before = select.value;
  const wanted = choices.map(({ value, words }) => `${value}|${words}`).join('\n');
  if (select.dataset.choices === wanted) return;
  select.dataset.choices = wanted;
  select.replaceChildren(...choices.map(({ value, words }) => make('option', { value, textContent: words })));
  select.value = choices.some(({ value }) => value === before) ? before : fallback;
}

const chosen = (value) => {
  const [model, version] = value.split('/');
  return version ? { model, version: Number(version) } : { model };
};

let refreshing = null;
function refreshModels() {
  refreshing ??= askUntil('/models', null, null, tell).then((found) => {
    models = found;
    cards.clear();
    const choices = listChoices();
    const main = found.default ?? choices[0]?.value ?? '';
    for (const id of ['first', 'file-model', 'card-model']) fill($(id), choices, main);
    fill($('second'), [{ value: '', words: 'Nothing' }, ...choices], '');
    $('card-model').replaceChildren(...found.models.map(({ name }) => make('option', { value: name, textContent: name, selected: name === ($('card-model').value || main) })));
    setState('ready', 'Ready');
    tell(null);
    layOut();
  }).catch(tell).finally(() => { refreshing = null; });
  return refreshing;
}

async function cardOf(name) {
  if (!cards.has(name)) cards.set(name, (await ask(`/models/${encodeURIComponent(name)}`)).json());
  try { return await cards.get(name); } catch (error) { cards.delete(name); throw error; }
}

/** How far the confidence of a model is off on its test data, on average; 0 if unknown. */
async function errorOf(name) {
  try {
    const { card } = await cardOf(name);
    const split = card.metrics.test ?? card.metrics.validation ?? {};
    const first = Object.values(split)[0] ?? {};
    return first.expected_calibration_error ?? 0;
  } catch { return 0; }
}

// --- one text

const EXAMPLES = [
  ['A warm one', 'A warm, funny film with a wonderful cast. I laughed, I cried, and I will happily watch it again.'],
  ['A bitter one', 'Two hours I will never get back. The plot is a mess, the dialogue is awful, and even the dog looks bored.'],
  ['Two sides', 'The first half is dull and far too long, but the ending is so good that I almost forgave it.'],
  ['Hard: negation', 'I would not say that I did not enjoy it, although nobody could call this a good film.'],
  ['Another language', 'Ein wunderbarer Film, ich habe jede Minute genossen und gehe morgen wieder hin.'],
];
$('examples').append(...EXAMPLES.map(([name, text]) => {
  const button = make('button', { type: 'button', textContent: name });
  button.addEventListener('click', () => { $('text').value = text; typed(0); });
  return make('li', {}, button);
}));

const TYPING_MS = 180;
const RESTING_MS = 250;
let typing = null;
let current = new AbortController();

function typed(delay = TYPING_MS) {
  const text = $('text').value;
  const count = [...text].length;
  $('count').textContent = count ? plural(count, 'character') : 'Nothing yet';
  current.abort();
  clearTimeout(typing);
  typing = setTimeout(predictAll, delay);
  for (const panel of panels()) panel.setAttribute('aria-busy', String(Boolean(text.trim())));
}

const panels = () => [...$('answers').children];

/** One panel for each chosen model. */
function layOut() {
  const wanted = [$('first').value, $('second').value].filter(Boolean);
  const have = panels().map((panel) => panel.dataset.model);
  if (wanted.join() === have.join()) return;
  $('answers').replaceChildren(...wanted.map((value) => {
    const { model, version } = chosen(value);
    const name = version ? `${model}, version ${version}` : model;
    return make('article.card.answer', { 'data-model': value, 'aria-label': `Answer of ${name}` },
      make('p.name', { textContent: name }),
      make('div.body', {}, make('p.quiet', { textContent: 'The verdict appears here.' })));
  }));
  for (const panel of panels()) panel.dataset.model = wanted[panels().indexOf(panel)];
  typed(0);
}

function predictAll() {
  current.abort();
  current = new AbortController();
  const text = $('text').value;
  if (!text.trim()) {
    for (const panel of panels()) {
      panel.setAttribute('aria-busy', 'false');
      panel.querySelector('.body').replaceChildren(make('p.quiet', { textContent: 'The verdict appears here.' }));
    }
    $('spoken').textContent = '';
    return;
  }
  const { signal } = current;
  panels().forEach((panel, index) => predictOne(panel, text, signal, index === 0));
}

async function predictOne(panel, text, signal, speaks) {
  const body = panel.querySelector('.body');
  const choice = chosen(panel.dataset.model);
  const say = (error) => { if (!signal.aborted) tell(error); };
  try {
    const answer = await askUntil('/predict', { text, ...choice }, signal, say);
    const error = await errorOf(choice.model);
    if (signal.aborted) return;
    tell(null);
    setState('ready', 'Ready');
    showAnswer(panel, answer, error, null, text);
    if (speaks) $('spoken').textContent = answer.reliable === false ? 'no verdict' : `${answer.label}, ${percent(answer.probabilities[answer.label])}, ${wording(answer, error)}`;
    await pause(RESTING_MS, signal);
    const explained = await askUntil('/predict', { text, ...choice, explain: true }, signal, say);
    if (signal.aborted) return;
    tell(null);
    showAnswer(panel, explained, error, explained.explanation, text);
  } catch (error) {
    if (signal.aborted) return;
    panel.setAttribute('aria-busy', 'false');
    const words = error instanceof Refusal ? explainRefusal(error) : 'This page has a fault.';
    body.replaceChildren(make('p.warning', { textContent: words }));
    if (error.status === 404) refreshModels();
  }
}

const SENTENCES = {
  'almost certain': 'The model is almost certain.',
  'very sure': 'The model is very sure.',
  'fairly sure': 'The model is fairly sure.',
  'not sure': 'The model leans that way, but is not sure.',
  'a coin toss': 'For the model this is a coin toss.',
  undecided: 'The model is undecided.',
  'no verdict': 'The model has too little to go by, so all labels get the same probability.',
};

/** How sure the model is, in words; less so for a model whose confidence is often off. */
function wording({ probabilities, label, reliable }, error) {
  if (reliable === false) return 'no verdict';
  const sure = probabilities[label] - error;
  const count = Object.keys(probabilities).length;
  if (sure >= 0.97) return 'almost certain';
  if (sure >= 0.9) return 'very sure';
  if (sure >= 0.75) return 'fairly sure';
  if (sure >= 0.6 || (count > 2 && sure >= 0.5)) return 'not sure';
  return count === 2 ? 'a coin toss' : 'undecided';
}

function warningsOf(answer, words) {
  const warnings = [];
  const known = answer.tokens - answer.unknown;
  if (!answer.tokens) {
    warnings.push('There is no word in this text. The model has nothing to go by, so its answer means nothing.');
  } else if (!known) {
    warnings.push('The model knows none of these words, so its answer means nothing.');
  } else if (answer.reliable === false) {
    warnings.push(`The model knows only ${known} of ${plural(answer.tokens, 'word')}. By its measured rule it cannot judge such a text.`);
  } else if (answer.tokens >= 4 && known < answer.tokens * 0.6) {
    warnings.push(`The model knows only ${known} of ${answer.tokens} words. Is this another language than the one it has learned?`);
  }
  if (answer.truncated) {
    const read = words ? `${plural(words.length, 'word')} of ${whole.format(answer.tokens)}` : 'a part';
    warnings.push(`The text is longer than the model reads: it has read its beginning and its end, ${read}.`);
  }
  return warnings;
}

function showAnswer(panel, answer, error, words, text) {
  const confidence = answer.probabilities[answer.label];
  const bars = make('dl.bars', {});
  const sorted = Object.entries(answer.probabilities).sort(([, a], [, b]) => b - a);
  for (const [label, p] of sorted) {
    const fill = make(`div.fill.${tone(label)}`);
    fill.style.width = `${p * 100}%`;
    bars.append(make('dt', { textContent: label }),
      make('dd', { 'aria-hidden': 'true' }, make('div.track', {}, fill)),
      make('dd.value', { textContent: percent(p) }));
  }
  const about = Math.min(99, Math.round(confidence * 100));
  const body = panel.querySelector('.body');
  const before = body.querySelector('.why');
  const stale = before && before.dataset.text === text && !words ? before : null;
  const judged = answer.reliable !== false;
  body.replaceChildren(
    make(`p.verdict.${judged ? tone(answer.label) : 'other'}`, { textContent: judged ? answer.label : 'no verdict' }),
    make('p.sure', { textContent: SENTENCES[wording(answer, error)] }),
    bars,
    ...(judged ? [make('p.quiet', { textContent: `Of 100 test texts with this confidence about ${about} are labelled right${error >= 0.02 ? `, give or take ${Math.round(error * 100)}` : ''}.` })] : []),
    ...warningsOf(answer, words).map((warning) => make('p.warning', { textContent: warning })),
    words ? showWhy(answer, words, text) : stale ?? make('p.quiet', { textContent: 'Looking for the words that decided …' }),
    make('p.quiet', { textContent: `${answer.model}, version ${answer.version}, ${plural(answer.tokens, 'token')}${answer.unknown ? `, ${whole.format(answer.unknown)} unknown` : ''}` }));
  panel.setAttribute('aria-busy', String(!words && !stale));
}

const tone = (label) => (['positive', 'negative', 'neutral'].includes(label) ? label : 'other');

const FAINT = 0.12; // words with less of the largest contribution are not shaded

/** The text with its words shaded, and the strongest ones as a list. */
function showWhy(answer, words, text) {
  const characters = Array.from(text);
  const slice = (start, end) => characters.slice(start, end).join('');
  const largest = Math.max(0.7, ...words.map((word) => Math.abs(word.contribution)));
  const shaded = make('p.words', { tabIndex: 0, role: 'group', 'aria-label': 'Your text, shaded by what each word contributed' });
  let done = 0;
  for (const word of words) {
    if (word.start > done) shaded.append(slice(done, word.start));
    const spoken = slice(word.start, word.end);
    const share = Math.abs(word.contribution) / largest;
    if (!word.known) {
      shaded.append(make('span.stranger', { textContent: spoken, title: 'not in the vocabulary' }));
    } else if (share < FAINT) {
      shaded.append(spoken);
    } else {
      const mark = make(word.contribution < 0 ? 'mark.against' : 'mark', { textContent: spoken, title: signed(word.contribution) });
      mark.style.setProperty('--w', (0.06 + 0.44 * share).toFixed(3));
      shaded.append(mark);
    }
    done = word.end;
  }
  if (done < characters.length) shaded.append(slice(done));
  const strongest = [...words].sort((a, b) => Math.abs(b.contribution) - Math.abs(a.contribution)).slice(0, 10).filter((word) => word.contribution);
  const rows = strongest.map((word) => make('tr', {},
    make('td', { textContent: slice(word.start, word.end) }),
    make('td', { textContent: word.contribution > 0 ? `for ${answer.label}` : `against ${answer.label}` }),
    make('td.number', { textContent: signed(word.contribution) })));
  return make('div.why', { 'data-text': text },
    make('h3.small', { textContent: 'Why' }), shaded,
    make('p.legend', {}, make('b.for', { textContent: `speaks for ${answer.label}` }), make('b.against', { textContent: 'speaks against it' }), make('b.stranger', { textContent: 'not in the vocabulary' })),
    rows.length ? make('details', {}, make('summary', { textContent: 'The strongest words' }),
      make('table', {}, make('thead', {}, make('tr', {}, ...[['Word', ''], ['Speaks', ''], ['Log-odds', 'number']].map(([name, cls]) => make(cls ? `th.${cls}` : 'th', { textContent: name, scope: 'col' })))), make('tbody', {}, ...rows))) : null);
}

const signed = (value) => `${value > 0 ? '+' : '−'}${Math.abs(value).toFixed(2)}`;

$('text').addEventListener('input', () => typed());
$('clear').addEventListener('click', () => { $('text').value = ''; typed(0); $('text').focus(); });
for (const id of ['first', 'second']) $(id).addEventListener('change', layOut);

// --- a file

const ROWS_AT_ONCE = 64;
const CHARS_AT_ONCE = 400_000;
const LANES = 2;
let table = null;
let scoring = null;

/** Rows of cells of a CSV or TSV text (RFC 4180): quotes, doubled quotes, line breaks in cells. */
function parseTable(text) {
  const head = text.slice(0, 10_000).split(/\r?\n/, 1)[0];
  const comma = [',', '\t', ';', '|'].map((mark) => [mark, head.split(mark).length]).sort((a, b) => b[1] - a[1])[0][0];
  const rows = [];
  let row = [];
  let at = 0;
  while (at < text.length) {
    let cell;
    if (text[at] === '"') {
      cell = '';
      for (at += 1; ;) {
        const end = text.indexOf('"', at);
        if (end < 0) { cell += text.slice(at); at = text.length; break; }
        cell += text.slice(at, end);
        at = end + 1;
        if (text[at] !== '"') break;
        cell += '"';
        at += 1;
      }
    } else cell = '';
    let end = at;
    while (end < text.length && text[end] !== comma && text[end] !== '\n' && text[end] !== '\r') end += 1;
    cell += text.slice(at, end);
    row.push(cell);
    at = end;
    if (at >= text.length) break;
    if (text[at] === comma) { at += 1; if (at === text.length) row.push(''); continue; }
    at += text.startsWith('\r\n', at) ? 2 : 1;
    rows.push(row);
    row = [];
  }
  if (row.length) rows.push(row);
  // A blank line is no row, but in a file of one column it is an empty text.
  const wide = rows.some((cells) => cells.length > 1);
  return { comma, rows: wide ? rows.filter((cells) => cells.length > 1 || cells[0] !== '') : rows };
}

function decode(bytes) {
  const mark = new Uint8Array(bytes.slice(0, 2));
  if (mark[0] === 0xff && mark[1] === 0xfe) return new TextDecoder('utf-16le').decode(bytes);
  if (mark[0] === 0xfe && mark[1] === 0xff) return new TextDecoder('utf-16be').decode(bytes);
  try { return new TextDecoder('utf-8', { fatal: true }).decode(bytes); } catch { return new TextDecoder('windows-1252').decode(bytes); }
}

async function openFile(file) {
  scoring?.abort();
  $('download').hidden = true;
  $('file-running').hidden = true;
  const { comma, rows } = parseTable(decode(await file.arrayBuffer()));
  $('file-ready').hidden = false;
  if (rows.length < 2) {
    table = null;
    $('score').disabled = true;
    $('file-about').textContent = `${file.name} must have a line of column names and at least one row.`;
    return;
  }
  const [names, ...content] = rows;
  table = { file: file.name, comma, names, content };
  $('score').disabled = false;
  $('file-about').textContent = `${file.name}: ${plural(content.length, 'row')}, ${plural(names.length, 'column')}.`;
  const lengths = names.map((_, column) => content.slice(0, 100).reduce((sum, row) => sum + (row[column] ?? '').length, 0));
  const best = names.findIndex((name) => /^(text|review|comment|sentence|tweet|body)s?$/i.test(name));
  $('column').replaceChildren(...names.map((name, index) => make('option', { value: String(index), textContent: name || `column ${index + 1}` })));
  $('column').value = String(best >= 0 ? best : lengths.indexOf(Math.max(...lengths)));
}

const quote = (cell, comma) => (/["\r\n]/.test(cell) || cell.includes(comma) ? `"${cell.replaceAll('"', '""')}"` : cell);

/** Score all texts; calls `done` with the number of rows after each part. */
async function scoreAll(texts, choice, signal, done) {
  const answers = new Array(texts.length);
  let next = 0;
  let finished = 0;
  async function lane() {
    while (next < texts.length) {
      const first = next;
      let chars = 0;
      while (next < texts.length && next - first < ROWS_AT_ONCE && (next === first || chars + texts[next].length <= CHARS_AT_ONCE)) {
        chars += texts[next].length;
        next += 1;
      }
      const part = texts.slice(first, next);
      let predictions;
      try {
        const say = (error) => tell(error);
        ({ predictions } = await askUntil('/predict', { texts: part, ...choice }, signal, say));
        tell(null);
      } catch (error) {
        if (signal.aborted || !(error instanceof Refusal) || part.length === 1 || error.status === 404) {
          if (part.length > 1 || signal.aborted || !(error instanceof Refusal)) throw error;
          predictions = [{ error: { detail: error.message } }];
        } else { // one of them is to blame: one at a time
          predictions = [];
          for (const text of part) {
            try {
              predictions.push(...(await askUntil('/predict', { texts: [text], ...choice }, signal, tell)).predictions);
            } catch (single) {
              if (signal.aborted || !(single instanceof Refusal)) throw single;
              predictions.push({ error: { detail: single.message } });
            }
          }
        }
      }
      predictions.forEach((prediction, index) => { answers[first + index] = prediction; });
      finished += part.length;
      done(finished);
    }
  }
  await Promise.all(Array.from({ length: LANES }, lane));
  return answers;
}

async function score() {
  const { comma, names, content, file } = table;
  const column = Number($('column').value);
  const choice = chosen($('file-model').value);
  const own = new AbortController(); // a later file has one of its own
  scoring = own;
  const { signal } = own;
  $('score').disabled = true;
  $('cancel').hidden = false;
  $('download').hidden = true;
  $('file-running').hidden = false;
  $('progress').value = 0;
  $('file-progress').textContent = 'Beginning …';
  const started = performance.now();
  try {
    const texts = content.map((row) => (row[column] ?? '').replaceAll('\0', ' ').toWellFormed?.() ?? row[column] ?? '');
    const answers = await scoreAll(texts, choice, signal, (finished) => {
      if (signal.aborted) return;
      const seconds = (performance.now() - started) / 1000;
      const rate = finished / seconds;
      $('progress').value = finished / texts.length;
      $('file-progress').textContent = `${whole.format(finished)} of ${plural(texts.length, 'row')}, ${whole.format(Math.round(rate))} rows/s, ${Math.ceil((texts.length - finished) / rate)} s left`;
    });
    const labels = Object.keys(answers.find((answer) => answer.probabilities)?.probabilities ?? {});
    const added = ['label', 'confidence', ...labels.map((label) => `probability_${label}`), 'error'];
    const prefix = added.some((name) => names.includes(name)) ? 'valence_' : '';
    const lines = [[...names, ...added.map((name) => prefix + name)]];
    content.forEach((row, index) => {
      const { label, probabilities, error } = answers[index];
      const cells = names.map((_, each) => row[each] ?? '');
      if (error) lines.push([...cells, '', '', ...labels.map(() => ''), error.detail]);
      else lines.push([...cells, label, String(probabilities[label]), ...labels.map((each) => String(probabilities[each])), '']);
    });
    const text = lines.map((line) => line.map((cell) => quote(cell, comma)).join(comma)).join('\r\n');
    const failed = answers.filter((answer) => answer.error).length;
    const seconds = (performance.now() - started) / 1000;
    URL.revokeObjectURL($('download').href);
    $('download').href = URL.createObjectURL(new Blob(['\ufeff', text, '\r\n'], { type: 'text/csv' }));
    $('download').download = file.replace(/(\.\w+)?$/, '-scored$1');
    $('download').hidden = false;
    const words = `${plural(texts.length, 'row')} scored in ${seconds.toFixed(1)} s${failed ? `; ${failed} could not be, their column “${prefix}error” says why` : ''}.`;
    $('file-progress').textContent = words;
    $('spoken').textContent = words;
  } catch (error) {
    const words = signal.aborted ? 'Cancelled.' : explainRefusal(error);
    own.abort(); // the other lane ends, too
    $('file-progress').textContent = words;
  } finally {
    $('score').disabled = false;
    $('cancel').hidden = true;
  }
}

$('score').addEventListener('click', score);
$('cancel').addEventListener('click', () => scoring.abort());
$('file-input').addEventListener('change', () => { if ($('file-input').files[0]) openFile($('file-input').files[0]); $('file-input').value = ''; });
for (const kind of ['dragover', 'dragleave', 'drop']) {
  $('drop').addEventListener(kind, (event) => {
    event.preventDefault();
    $('drop').classList.toggle('over', kind === 'dragover');
    if (kind === 'drop' && event.dataTransfer.files[0]) openFile(event.dataTransfer.files[0]);
  });
}

// --- a model's card

const PICTURES = [
  ['confusion_matrix', 'Which labels it takes for which'],
  ['reliability', 'Whether its confidence can be trusted'],
  ['roc', 'Hits against false alarms'],
  ['curves', 'How its training went'],
  ['lengths', 'How long the texts are'],
  ['slices', 'Where it does better and worse'],
];
const METRICS = {
  accuracy: 'Accuracy', macro_f1: 'Macro F1', log_loss: 'Log loss', roc_auc: 'ROC AUC',
  expected_calibration_error: 'Calibration error',
};
let cardShown = 0;

/** What a version is good for: its figures by kind of text, and which texts it cannot judge. */
function showQuality({ quality = {}, reliability }) {
  const share = (value) => (value === null || value === undefined ? '–' : percent(value));
  const interval = (pair) => (pair ? ` (${share(pair[0])} to ${share(pair[1])})` : '');
  const parts = [];
  const kinds = Object.entries(quality);
  if (kinds.length) {
    const names = ['Texts', 'Number', 'Right', 'Wrong above 0.8', 'Neutral undecided', 'Calibration error'];
    parts.push(make('h3.small', { textContent: 'What it is good for' }),
      make('div.scroll', { role: 'region', 'aria-label': 'Quality by kind of text', tabIndex: 0 }, make('table', { id: 'quality' },
        make('thead', {}, make('tr', {}, ...names.map((name, index) => make(index ? 'th.number' : 'th', { textContent: name, scope: 'col' })))),
        make('tbody', {}, ...kinds.map(([kind, each]) => make('tr', {}, make('td', { textContent: kind }),
          ...[whole.format(each.texts + each.neutral_texts), `${share(each.accuracy)}${interval(each.interval)}`, share(each.sure_and_wrong), share(each.undecided), each.calibration_error?.toFixed(3) ?? '–']
            .map((value) => make('td.number', { textContent: value }))))))));
  }
  if (reliability && (reliability.max_unknown_share < 1 || reliability.min_known_tokens > 1)) {
    parts.push(make('p.quiet', { textContent: `It judges texts with ${plural(reliability.min_known_tokens, 'known word')} or more, and at most ${percent(reliability.max_unknown_share)} unknown ones. Others get even odds.` }));
  }
  return parts;
}

async function showCard() {
  const name = $('card-model').value;
  cardShown += 1;
  const mine = cardShown;
  $('pictures').replaceChildren();
  $('pictures-title').hidden = true;
  if (!name) return;
  let detail;
  try { detail = await cardOf(name); } catch (error) { tell(error); return; }
  if (mine !== cardShown) return;
  const { card } = detail;
  if (!card) {
    $('card').replaceChildren(make('p', { textContent: 'No version of this model is ready.' }));
    return;
  }
  const rows = [];
  for (const [split, engines] of Object.entries(card.metrics)) {
    for (const [engine, figures] of Object.entries(engines)) {
      rows.push(make('tr', {}, make('td', { textContent: split }), make('td', { textContent: engine }),
        ...Object.keys(METRICS).map((metric) => make('td.number', { textContent: figures[metric]?.toFixed(3) ?? '–' }))));
    }
  }
  const counts = Object.entries(card.data.counts ?? {}).filter(([, count]) => count).map(([split, count]) => `${whole.format(count)} ${split.replaceAll('_', ' ')}`).join(', ');
  $('card').replaceChildren(
    make('h2.title', { textContent: `${detail.name}, version ${card.version}` }),
    make('p.quiet', { textContent: `Architecture ${card.architecture}, exported ${new Date(card.created).toLocaleDateString('en', { dateStyle: 'long' })}, calibrated with temperature ${card.calibration.temperature.toFixed(2)}.` }),
    make('p.quiet', { textContent: `Data: ${card.data.name}. ${counts}.` }),
    make('div.scroll', { role: 'region', 'aria-label': 'Metrics', tabIndex: 0 }, make('table', {},
      make('thead', {}, make('tr', {}, make('th', { textContent: 'Data', scope: 'col' }), make('th', { textContent: 'Engine', scope: 'col' }), ...Object.values(METRICS).map((words) => make('th.number', { textContent: words, scope: 'col' })))),
      make('tbody', {}, ...rows))),
    ...showQuality(card),
    make('h3.small', { textContent: 'Limits' }),
    make('ul', {}, ...card.limits.map((limit) => make('li', { textContent: limit }))));
  for (const [file, caption] of PICTURES) {
    try {
      const response = await ask(`/console/pictures/${encodeURIComponent(detail.name)}/${card.version}/${file}.png`);
      const image = make('img', { alt: caption, src: URL.createObjectURL(await response.blob()) });
      if (mine !== cardShown) return;
      image.addEventListener('load', () => URL.revokeObjectURL(image.src));
      $('pictures-title').hidden = false;
      $('pictures').append(make('figure', {}, image, make('figcaption', { textContent: caption })));
    } catch { /* this version has no such picture */ }
  }
}

$('card-model').addEventListener('change', showCard);

// --- the figures

const POLL_MS = 2000;
const WINDOW = 6;
const SHOWN = 60;
let samples = [];
let polling = false;
/** The page has a link to the metrics if they are on its port. */
let metricsAreHere = $('metrics-link') !== null;
const rates = [];

/** Prometheus' text format as a list of series. */
function parseMetrics(page) {
  const series = [];
  for (const line of page.split('\n')) {
    const match = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!match) continue;
    const labels = {};
    for (const [, name, value] of (match[2] ?? '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[name] = value;
    series.push({ name: match[1].replace('valence_', ''), labels, value: Number(match[3]) });
  }
  return series;
}

const total = (series, name, wanted = () => true) => series.reduce((sum, each) => (each.name === name && wanted(each.labels) ? sum + each.value : sum), 0);
/** Whether a route predicts, by any protocol. */
const isWork = ({ route }) => /\/predict$|\/infer$|:(predict|classify)$/.test(route);

/** A quantile of a histogram, between two samples; null without requests. */
function quantile(before, after, name, share) {
  const bounds = new Map();
  for (const [sign, series] of [[-1, before], [1, after]]) {
    for (const each of series) {
      if (each.name === `${name}_bucket` && isWork(each.labels) && each.labels.size === 'one') {
        const bound = each.labels.le === '+Inf' ? Infinity : Number(each.labels.le);
        bounds.set(bound, (bounds.get(bound) ?? 0) + sign * each.value);
      }
    }
  }
  const sorted = [...bounds].sort(([a], [b]) => a - b);
  const count = sorted.at(-1)?.[1] ?? 0;
  if (count <= 0) return null; // the series of a released version are gone
  let low = 0;
  let below = 0;
  for (const [bound, cumulated] of sorted) {
    if (cumulated >= share * count) return bound === Infinity ? low : low + ((bound - low) * (share * count - below)) / (cumulated - below || 1);
    low = bound;
    below = cumulated;
  }
  return low;
}

const milliseconds = (seconds) => (seconds === null ? '–' : `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms`);

async function pollFigures() {
  if (polling) return;
  polling = true;
  try {
    while (!$('service').hidden) {
      if (!document.hidden) await pollOnce();
      await pause(POLL_MS);
    }
  } finally { polling = false; }
}

function leaveOutFigures() {
  metricsAreHere = false;
  $('metrics-link')?.remove();
  $('live').hidden = true;
  $('elsewhere').hidden = false;
}

async function readMetrics() {
  try {
    return await (await ask('/metrics')).text();
  } catch (error) {
    if (error.status !== 404) throw error;
    leaveOutFigures();
    return undefined;
  }
}

async function pollOnce() {
  let page;
  if (!metricsAreHere) leaveOutFigures();
  try {
    if (metricsAreHere) page = await readMetrics();
    models = await (await ask('/models')).json();
    tell(null);
    setState('ready', 'Ready');
    showVersions(models.models);
  } catch (error) {
    tell(error);
    if (error.status === 401) await keyGiven();
    return;
  }
  if (page !== undefined) {
    const now = { at: performance.now() / 1000, series: parseMetrics(page) };
    const last = samples.at(-1);
    if (last && total(now.series, 'requests_total') < total(last.series, 'requests_total')) samples = []; // it has restarted
    samples.push(now);
    if (samples.length > WINDOW) samples.shift();
    const first = samples[0];
    const seconds = now.at - first.at;
    const rise = (name, wanted) => total(now.series, name, wanted) - total(first.series, name, wanted);
    const rate = seconds ? rise('requests_total', isWork) / seconds : 0;
    const previous = samples.at(-2);
    if (previous) {
      rates.push((total(now.series, 'requests_total', isWork) - total(previous.series, 'requests_total', isWork)) / (now.at - previous.at));
      if (rates.length > SHOWN) rates.shift();
    }
    const runs = rise('batch_items_count');
    const workers = total(now.series, 'workers', ({ state }) => state === 'ready');
    showFigures([
      ['requests per second', rate.toFixed(rate < 10 ? 1 : 0)],
      ['p50 latency', milliseconds(quantile(first.series, now.series, 'request_duration_seconds', 0.5))],
      ['p99 latency', milliseconds(quantile(first.series, now.series, 'request_duration_seconds', 0.99))],
      ['texts per batch', runs ? (rise('batch_items_sum') / runs).toFixed(1) : '–'],
      ['texts in the queue', whole.format(total(now.series, 'queue_items'))],
      ['refused per second', seconds ? (rise('rejected_total') / seconds).toFixed(1) : '0'],
      ...(workers ? [['workers ready', whole.format(workers)]] : []),
    ]);
    drawChart();
  }
}

function showFigures(figures) {
  $('figures').replaceChildren(...figures.map(([words, value]) => make('div', {}, make('dt', { textContent: words }), make('dd', { textContent: value }))));
}

function drawChart() {
  const top = Math.max(1, ...rates) * 1.1;
  const span = Math.max(10, rates.length);
  const points = rates.map((rate, index) => `${(600 - (rates.length - 1 - index) * (600 / (span - 1))).toFixed(1)},${(118 - (rate / top) * 112).toFixed(1)}`);
  const draw = (name, attributes) => {
    const element = document.createElementNS('http://www.w3.org/2000/svg', name);
    for (const [each, value] of Object.entries(attributes)) element.setAttribute(each, value);
    return element;
  };
  if (points.length < 2) { $('chart').replaceChildren(); return; }
  $('chart').setAttribute('aria-label', `Requests per second: now ${rates.at(-1).toFixed(1)}, at most ${Math.max(...rates).toFixed(1)}`);
  $('chart').replaceChildren(
    draw('path', { d: `M${points.join(' L')} L600,120 L${points[0].split(',')[0]},120 Z` }),
    draw('polyline', { points: points.join(' ') }));
}

function showVersions(list) {
  const rows = list.flatMap((model) => model.versions.map((version) => {
    const aliases = Object.entries(model.aliases ?? {}).filter(([, number]) => number === version.version).map(([alias]) => alias);
    const compared = version.compared ? `${(version.compared.changed_labels * 100).toFixed(1)} % of the labels differ from version ${version.compared.version}` : '';
    return make('tr', {},
      make('td', { textContent: `${model.name}${model.default ? ' (default)' : ''}` }),
      make('td.number', { textContent: version.version }),
      make('td', {}, make(`span.pill.${version.state}`, { textContent: version.state })),
      make('td', { textContent: version.engine ?? '–' }),
      make('td', { textContent: [aliases.join(', '), version.reason, compared].filter(Boolean).join('; ') }));
  }));
  const names = [['Model', ''], ['Version', 'number'], ['State', ''], ['Engine', ''], ['Notes', '']];
  $('versions').replaceChildren(
    make('thead', {}, make('tr', {}, ...names.map(([name, cls]) => make(cls ? `th.${cls}` : 'th', { textContent: name, scope: 'col' })))),
    make('tbody', {}, ...rows));
}

// --- begin

refreshModels().then(() => {
  const wanted = tabs.find((tab) => `#${tab.getAttribute('aria-controls')}` === location.hash);
  if (wanted && wanted !== tabs[0]) show(wanted);
});
setInterval(() => { if (!document.hidden && $('service').hidden) refreshModels(); }, 15_000);

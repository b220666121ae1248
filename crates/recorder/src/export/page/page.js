// The page: which episode is open and at what time, and all that changes it.

const byId = (id) => document.getElementById(id);
const index = JSON.parse(byId("index").textContent);
const { fps, folder } = index;
const episodes = index.episodes.map(([number, length, task, outcome, reason]) => ({ number, length, seconds: length / fps, task: index.texts[task], outcome, reason: index.texts[reason] }));
const byNumber = new Map(episodes.map((episode) => [episode.number, episode]));

// Where an episode's data are: in the page, or in files that are loaded as scripts, which call these.
const waiting = new Map(), loaded = new Map();
globalThis.sinew = {
  data: (number, data) => waiting.get(`${number}/data.js`)?.(data),
  images: (number, camera, list) => waiting.get(`${number}/${camera}.js`)?.(list),
};
const fileOf = (number, name) => `${encodeURIComponent(folder)}/${String(number).padStart(6, "0")}/${name}`;

function script(number, name) {
  return new Promise((resolve, reject) => {
    const element = make("script", { src: fileOf(number, name) }), key = `${number}/${name}`;
    const done = (end, value) => { waiting.delete(key); element.remove(); end(value); };
    waiting.set(key, (value) => done(resolve, value));
    element.addEventListener("error", () => done(reject, new Error(`${folder}/${String(number).padStart(6, "0")}/${name} can't be read; the folder belongs beside the page.`)));
    document.head.append(element);
  });
}

const bytesOf = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));

function floats(text) {
  const bytes = bytesOf(text), view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 4 }, (_, at) => view.getFloat32(at * 4, true));
}

async function dataOf(number) {
  if (loaded.has(number)) return loaded.get(number);
  const data = folder ? await script(number, "data.js") : JSON.parse(byId(`episode-${number}`).textContent);
  data.tables = data.tables.map((table) => table && floats(table));
  loaded.set(number, data);
  // As many as somebody goes to and fro between.
  if (loaded.size > 16) loaded.delete(loaded.keys().next().value);
  return data;
}

async function picturesOf(number, camera, { mp4, every, jpegs, why }) {
  if (every) return { every, jpegs: jpegs ?? await script(number, `${camera}.js`) };
  if (mp4 === undefined) return { why };
  return { mp4: mp4 ? URL.createObjectURL(new Blob([bytesOf(mp4)], { type: "video/mp4" })) : fileOf(number, `${camera}.mp4`) };
}

const ICONS = { play: "M1 0l12 7-12 7z", pause: "M1 0h4v14H1zM9 0h4v14H9z" };
const [slider, clock, playButton, rate] = ["slider", "clock", "play", "rate"].map(byId);
let current = null, time = 0, playing = false, last = 0;
const cameras = index.cameras.map((name) => new Camera(name));
const plots = new Plots(byId("plots"), index.tables, (to, done) => { pause(); goTo(to); if (done) keep(); });
const list = new List(episodes, (number) => open(number, 0, "push"));

const lastFrame = () => Math.max(0, (current?.length ?? 1) - 1);
const frameAt = (at) => Math.min(lastFrame(), Math.max(0, Math.floor(at * fps + 1e-6)));

/** Says the time everywhere but in the cameras. */
function tell() {
  const frame = frameAt(time), words = `${(frame / fps).toFixed(2)} s, frame ${frame} of ${current.length}`;
  if (Number(slider.value) !== frame) slider.value = frame;
  if (clock.textContent !== words) { clock.textContent = words; slider.setAttribute("aria-valuetext", words); }
  plots.mark(playing ? Math.min(time, lastFrame() / fps) : frame / fps);
}

/** Goes to the frame nearest to a time. */
function goTo(to) {
  if (!current) return;
  const frame = Math.min(lastFrame(), Math.max(0, Math.round(to * fps)));
  time = frame / fps;
  cameras.forEach((camera) => camera.seek(frame));
  tell();
}

function setPlaying(to) {
  playing = to;
  playButton.setAttribute("aria-label", to ? "Pause" : "Play");
  playButton.replaceChildren(make("svg", { viewBox: "0 0 14 14", "aria-hidden": "true" }, make("path", { d: ICONS[to ? "pause" : "play"] })));
}

function pause() {
  if (!playing) return;
  setPlaying(false);
  cameras.forEach((camera) => camera.pause());
  goTo(frameAt(time) / fps);
  keep();
}

function play() {
  if (playing || !current) return;
  if (frameAt(time) >= lastFrame()) goTo(0);
  setPlaying(true);
  cameras.forEach((camera) => camera.play(Number(rate.value)));
  last = performance.now();
  requestAnimationFrame(turn);
}

/** A picture of the screen while it plays: a video that runs gives the time, else the clock does. */
function turn(now) {
  if (!playing) return;
  const lead = cameras.map((camera) => camera.clock()).find((at) => at !== null);
  const ahead = time + ((now - last) / 1000) * Number(rate.value);
  time = lead !== undefined && Math.abs(lead - ahead) < 0.5 ? Math.max(time, lead) : ahead;
  last = now;
  if (time >= current.length / fps) { time = lastFrame() / fps; pause(); return; }
  cameras.forEach((camera) => camera.follow(time, frameAt(time)));
  tell();
  requestAnimationFrame(turn);
}

// The address says the episode and the time. Another episode is another entry of the history, another time is not.
const addressOf = () => `#episode=${current.number}&t=${(frameAt(time) / fps).toFixed(2)}`;
let keeping = 0;

function address(how) {
  clearTimeout(keeping);
  if (!current || location.hash === addressOf()) return;
  history[how === "push" ? "pushState" : "replaceState"](null, "", addressOf());
}

/** Keeps the time in the address, not for every step of a hand that still moves. */
function keep() {
  clearTimeout(keeping);
  keeping = setTimeout(() => address("replace"), 200);
}

function fromAddress() {
  const said = new URLSearchParams(location.hash.slice(1)), number = said.has("episode") ? Number(said.get("episode")) : NaN;
  const at = Number(said.get("t"));
  const to = byNumber.has(number) ? number : episodes[0]?.number;
  if (to === undefined) return;
  if (to === current?.number) { pause(); clearTimeout(keeping); goTo(Number.isFinite(at) ? at : 0); } else open(to, Number.isFinite(at) ? at : 0, byNumber.has(number) ? "keep" : "replace");
}

async function open(number, at, how) {
  if (number === undefined || number === current?.number) return;
  if (current && how === "push") { pause(); address("replace"); }
  clearTimeout(keeping);
  playing && setPlaying(false);
  cameras.forEach((camera) => camera.pause());
  const episode = current = byNumber.get(number);
  time = Math.min(lastFrame(), Math.max(0, Math.round(at * fps))) / fps;
  if (how !== "keep") address(how);
  document.title = `Episode ${number} – ${index.title}`;
  byId("name").textContent = `Episode ${number}`;
  byId("task").textContent = episode.task;
  const badge = byId("badge");
  badge.className = `badge ${MARKS[episode.outcome] ? episode.outcome : ""}`;
  badge.textContent = (MARKS[episode.outcome] ?? episode.outcome) + (episode.reason ? `: ${episode.reason}` : "");
  slider.max = lastFrame();
  list.select(number);
  byId("trouble").textContent = "";
  try {
    const data = await dataOf(number);
    if (current !== episode) return;
    byId("facts").replaceChildren(...data.facts.map(([what, value]) => make("div", {}, make("dt", {}, what), make("dd", {}, value))));
    plots.show(data.tables, episode.length, fps);
    goTo(time);
    await Promise.all(data.cameras.map(async (pictures, at) => {
      const shown = await picturesOf(number, at, pictures).catch((error) => ({ why: error.message }));
      if (current !== episode) { if (shown.mp4?.startsWith("blob:")) URL.revokeObjectURL(shown.mp4); return; }
      cameras[at].show(shown, episode.length, fps);
      cameras[at].seek(frameAt(time));
      if (playing) cameras[at].play(Number(rate.value));
    }));
  } catch (error) {
    if (current === episode) byId("trouble").textContent = error.message;
  }
}

playButton.addEventListener("click", () => (playing ? pause() : play()));
slider.addEventListener("input", () => { pause(); goTo(Number(slider.value) / fps); keep(); });
rate.addEventListener("change", () => playing && cameras.forEach((camera) => camera.play(Number(rate.value))));
for (const event of ["popstate", "hashchange"]) addEventListener(event, fromAddress);

const step = (frames) => { pause(); goTo((frameAt(time) + frames) / fps); keep(); };
addEventListener("keydown", (event) => {
  const { key, target } = event, inList = target === list.list;
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || !current) return;
  if (target.matches("input[type=search], select")) { if (key === "Escape") target.blur(); return; }
  // A button that has the focus is pressed by the space bar.
  if (key === " " && target.matches("button")) return;
  // On the slider up and down are its own.
  if (/^Arrow(Up|Down)$/.test(key) && target === slider) return;
  const to = (number) => open(number, 0, "push");
  const acts = {
    " ": () => (playing ? pause() : play()),
    ArrowLeft: () => step(event.shiftKey ? -Math.round(fps) : -1),
    ArrowRight: () => step(event.shiftKey ? Math.round(fps) : 1),
    Home: () => (inList ? to(list.shown[0]?.number) : step(-Infinity)),
    End: () => (inList ? to(list.shown.at(-1)?.number) : step(Infinity)),
    ArrowDown: () => to(list.beside(1)), j: () => to(list.beside(1)),
    ArrowUp: () => to(list.beside(-1)), k: () => to(list.beside(-1)),
    PageDown: () => inList && to(list.beside(10)), PageUp: () => inList && to(list.beside(-10)),
  };
  if (!acts[key] || (key.startsWith("Page") && !inList)) return;
  event.preventDefault();
  acts[key]();
});

const plural = (count, what) => `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;
byId("title").textContent = index.title;
byId("about").textContent = [index.robot, plural(index.of, "episode") + (index.of > episodes.length ? `, ${episodes.length.toLocaleString("en")} here` : ""), plural(index.frames, "frame"), `${fps} a second`, `LeRobotDataset ${index.version}`].filter(Boolean).join(" · ");
byId("cameras").replaceChildren(...cameras.map((camera) => camera.element));
document.querySelector("article").classList.toggle("seen", cameras.length > 0);
setPlaying(false);
if (episodes.length) fromAddress(); else byId("name").textContent = "There is no episode.";

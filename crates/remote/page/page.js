// The robot's state and cameras, and the stop.

const hash = new URLSearchParams(location.hash.slice(1));
if (hash.get("t")) {
  localStorage.setItem("token", hash.get("t"));
  history.replaceState(null, "", location.pathname);
}
const token = localStorage.getItem("token");
const at = (id) => document.getElementById(id);
const url = (path) => `ws://${location.host}${path}`;

async function get(path) {
  const answer = await fetch(path, { headers: { Authorization: `Bearer ${token}` } });
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error);
  return value;
}

// Runs a socket, and runs it again when it ends.
function keep(path, hello, heard) {
  const socket = new WebSocket(url(path));
  socket.binaryType = "arraybuffer";
  socket.onopen = () => socket.send(JSON.stringify({ token, ...hello }));
  socket.onmessage = (message) => heard(message.data, socket);
  socket.onclose = () => setTimeout(() => keep(path, hello, heard), 1000);
}

function show(robot, state) {
  at("mode").textContent = state.trouble ?? `${state.mode}${state.stop === "run" ? "" : `, ${state.stop}`}`;
  robot.state.forEach((channel, i) => {
    const unit = (value) => (value == null ? "–" : (value * channel.scale + channel.offset).toFixed(1));
    const goal = robot.action.findIndex((other) => other.name === channel.name);
    at("joints").rows[i].cells[1].textContent = unit(state.position[i]);
    at("joints").rows[i].cells[2].textContent = unit(state.goal[goal]);
  });
}

async function draw(data, socket) {
  if (typeof data === "string") return;
  const length = new DataView(data).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  const image = await createImageBitmap(new Blob([new Uint8Array(data, 4 + length)], { type: "image/jpeg" }));
  const canvas = at(`camera-${head.camera}`);
  [canvas.width, canvas.height] = [head.width, head.height];
  canvas.getContext("2d").drawImage(image, 0, 0);
  image.close();
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ ack: head.number }));
}

async function begin() {
  const robot = await get("/api/v1/robot");
  at("title").textContent = robot.title;
  for (const channel of robot.state) {
    const row = at("joints").insertRow();
    row.insertCell().textContent = channel.name;
    row.insertCell();
    row.insertCell();
  }
  for (const camera of robot.cameras) {
    const canvas = document.createElement("canvas");
    canvas.id = `camera-${camera.name}`;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Camera ${camera.name}`);
    at("cameras").append(canvas);
  }
  keep("/api/v1/state/stream", {}, (data) => {
    const message = JSON.parse(data);
    if (message.type === "state") show(robot, message);
    if (message.type === "error") at("mode").textContent = message.error;
  });
  if (robot.cameras.length) keep("/api/v1/cameras/stream", {}, draw);
}

at("stop").onclick = () =>
  fetch("/api/v1/stop", {
    method: "POST",
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
    body: JSON.stringify({ stop: "now" }),
  });
begin().catch((error) => (at("mode").textContent = error.message));

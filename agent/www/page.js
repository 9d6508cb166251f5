// The page of the device: asks for the state every two seconds and shows it, and settings when they change.

const PERIOD = 2000;
const HISTORY = 60;

const byId = (id) => document.getElementById(id);
const history = new Map();

function element(tag, attributes, ...children) {
  const node = document.createElement(tag);
  Object.assign(node, attributes);
  node.append(...children);
  return node;
}

async function ask(path, options) {
  const response = await fetch(path, options);
  const body = response.headers.get("content-type")?.startsWith("application/json") ? await response.json() : null;
  if (!response.ok) throw new Error(body?.error?.message ?? `${response.status} ${response.statusText}`);
  return body;
}

function duration(seconds) {
  const days = Math.floor(seconds / 86400);
  const clock = new Date((seconds % 86400) * 1000).toISOString().slice(11, 19);
  return days > 0 ? `${days} d ${clock}` : clock;
}

function megabytes(bytes) {
  return `${(bytes / 1048576).toFixed(0)} MB`;
}

function showDevice(status) {
  const device = status.device ?? {};
  const lines = {
    "Id": status.id, "Name": device.name, "Model": device.model, "Agent": `ioto ${status.version}`, "Profile": status.profile,
    "Agent is up": duration(status.uptime), "Device is up": device.uptime && duration(device.uptime), "Processor": device.cpu,
  };
  const shown = Object.entries(lines).filter(([, value]) => value);
  byId("device").replaceChildren(
    ...shown.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, String(value))]));
}

function meter(name, value, text) {
  const values = history.get(name) ?? [];
  values.push(value);
  if (values.length > HISTORY) values.shift();
  history.set(name, values);
  const low = Math.min(...values), span = Math.max(...values) - low || 1;
  const points = values.map((v, i) => `${(i * 100) / (HISTORY - 1)},${28 - (24 * (v - low)) / span}`).join(" ");
  const card = element("div", { className: "meter" }, element("div", {}, element("span", {}, name), element("strong", {}, text)));
  card.insertAdjacentHTML("beforeend",
    `<svg viewBox="0 0 100 30" preserveAspectRatio="none" aria-hidden="true"><polyline points="${points}"/></svg>`);
  return card;
}

function showHealth({ device = {} }) {
  const cards = [];
  if (device.load) cards.push(meter("Load", device.load[0], device.load[0].toFixed(2)));
  if (device.memory) {
    const used = device.memory.total - device.memory.available;
    cards.push(meter("Memory", used, `${megabytes(used)} of ${megabytes(device.memory.total)}`));
  }
  if (device.storage) cards.push(meter("Free storage", device.storage.available, megabytes(device.storage.available)));
  if (device.temperature != null) cards.push(meter("Temperature", device.temperature, `${device.temperature.toFixed(1)} °C`));
  byId("health").replaceChildren(...cards);
}

function details(service) {
  const hidden = new Set(["state", "since", "restarts", "error", "retryIn"]);
  const figures = Object.entries(service).filter(([name, value]) => !hidden.has(name) && value !== null && value?.length !== 0);
  const shown = figures.map(([name, value]) => `${name} ${Array.isArray(value) ? value.join(" ") : value}`);
  if (service.error) shown.unshift(`${service.error}; next try within ${Math.ceil(service.retryIn)} s`);
  return shown.join(", ");
}

function showServices({ services }) {
  byId("services").replaceChildren(...Object.entries(services).map(([name, service]) =>
    element("tr", {},
      element("td", {}, name),
      element("td", { className: `state ${service.state}` }, service.state),
      element("td", {}, details(service)))));
}

async function showReadings() {
  const { items } = await ask("/api/db/Reading?limit=10&order=descending");
  const rows = items.map((item) =>
    element("tr", {},
      element("td", {}, item.name),
      element("td", { className: "number" }, `${item.value ?? ""} ${item.unit ?? ""}`),
      element("td", {}, item.created ? new Date(item.created).toLocaleString() : "")));
  const none = element("tr", {}, element("td", { colSpan: 3, className: "empty" }, "No readings yet."));
  byId("readings").replaceChildren(...(rows.length ? rows : [none]));
}

async function showSettings() {
  const { items } = await ask("/api/db/Setting?limit=50");
  const rows = items.map((item) =>
    element("tr", {},
      element("td", {}, item.id),
      element("td", {}, item.value ?? ""),
      element("td", {}, item.updated ? new Date(item.updated).toLocaleString() : "")));
  const none = element("tr", {}, element("td", { colSpan: 3, className: "empty" }, "No settings yet."));
  byId("settings").replaceChildren(...(rows.length ? rows : [none]));
}

let watched = null, isShowing = false, isOld = false;

// Whoever changes a setting, here or in the cloud: it is shown at once. What changes meanwhile is shown once more.
async function settingChanged() {
  isOld = true;
  if (isShowing) return;
  isShowing = true;
  while (isOld) {
    isOld = false;
    await showSettings().catch(() => {});
  }
  isShowing = false;
}

function watchSettings() {
  if (watched && watched.readyState !== EventSource.CLOSED) return;
  watched = new EventSource("/api/db/Setting?watch");
  for (const kind of ["watching", "created", "updated", "removed", "lost"]) watched.addEventListener(kind, settingChanged);
}

function showConnection(good, text) {
  const line = byId("connection");
  line.className = good ? "good" : "bad";
  if (line.textContent !== text) line.textContent = text;
}

async function refresh() {
  try {
    const status = await ask("/api/status");
    document.title = `${status.device?.name || status.id} · ioto`;
    showDevice(status);
    showHealth(status);
    showServices(status);
    const readings = (status.models ?? []).includes("Reading");
    byId("readings-section").hidden = !readings;
    if (readings) await showReadings();
    const settings = (status.models ?? []).includes("Setting");
    byId("settings-section").hidden = !settings;
    if (settings) watchSettings();
    showConnection(true, "Live");
  } catch (error) {
    showConnection(false, `No answer from the device: ${error.message}`);
  }
}

// Sends what is in a form to the database, and says what came of it.
function store(name, path, item, show) {
  byId(name).addEventListener("submit", async (event) => {
    event.preventDefault();
    const result = byId(`${name}-result`);
    try {
      const body = JSON.stringify(item(new FormData(event.target)));
      await ask(path, { method: "POST", headers: { "content-type": "application/json" }, body });
      result.className = "";
      result.textContent = "Saved.";
      await show();
    } catch (error) {
      result.className = "bad";
      result.textContent = error.message;
    }
  });
}

store("reading", "/api/db/Reading", (form) => ({ name: form.get("name"), value: Number(form.get("value")) }), showReadings);
store("setting", "/api/db/Setting?upsert=true", (form) => ({ id: form.get("name"), value: form.get("value") }), showSettings);

for (;;) {
  await refresh();
  await new Promise((resolve) => setTimeout(resolve, PERIOD));
}

// The dashboard draws one event per second. Foreign strings are inserted as text and never as markup.
"use strict";

const KEPT = 300;
const SVG = "http://www.w3.org/2000/svg";
const rates = [];
let last = null;

const element = (id) => document.getElementById(id);

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${unit === 0 || Number.isInteger(count) ? Math.round(count) : count.toFixed(2)} ${units[unit]}`;
}

const counted = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;

// Decimal units, as in the terminal.
function rate(bytesPerSecond) {
  if (bytesPerSecond >= 1e9) return `${(bytesPerSecond / 1e9).toFixed(2)} GB/s`;
  if (bytesPerSecond >= 1e6) return `${(bytesPerSecond / 1e6).toFixed(1)} MB/s`;
  if (bytesPerSecond >= 1e3) return `${(bytesPerSecond / 1e3).toFixed(1)} kB/s`;
  return `${Math.round(bytesPerSecond)} B/s`;
}

function draw(parent, name, attributes, text) {
  const shape = document.createElementNS(SVG, name);
  Object.entries(attributes).forEach(([key, value]) => shape.setAttribute(key, value));
  if (text !== undefined) shape.textContent = text;
  parent.append(shape);
}

// Rounds `top` up to a multiple of a quarter of the largest power of ten that is not above it.
function scale(top) {
  const step = 10 ** Math.floor(Math.log10(top)) / 4;
  return Math.ceil(top / step) * step;
}

function drawRates() {
  const svg = element("rates");
  svg.replaceChildren();
  const top = scale(Math.max(1, ...rates.flatMap(({ up, down }) => [up, down])));
  const x = (index) => 600 - ((rates.length - 1 - index) * 600) / (KEPT - 1);
  const y = (value) => 130 - (value / top) * 112;
  draw(svg, "line", { x1: 0, x2: 600, y1: 130, y2: 130, class: "axis" });
  draw(svg, "line", { x1: 0, x2: 600, y1: 18, y2: 18, class: "axis" });
  draw(svg, "text", { x: 2, y: 13 }, rate(top));
  draw(svg, "text", { x: 598, y: 13, "text-anchor": "end" }, "now");
  for (const side of ["down", "up"]) {
    const points = rates.map((at, index) => `${x(index).toFixed(1)},${y(at[side]).toFixed(1)}`);
    draw(svg, "polyline", { points: points.join(" "), class: `line ${side}` });
  }
}

function duration(micros) {
  if (micros < 1000) return `${micros} µs`;
  return micros < 1e6 ? `${(micros / 1000).toPrecision(2)} ms` : `${(micros / 1e6).toPrecision(2)} s`;
}

function drawLatency(buckets) {
  element("latency-section").hidden = buckets.length === 0;
  const svg = element("latency");
  svg.replaceChildren();
  const top = Math.max(1, ...buckets.map(([, count]) => count));
  const width = 600 / Math.max(buckets.length, 1);
  draw(svg, "line", { x1: 0, x2: 600, y1: 100, y2: 100, class: "axis" });
  buckets.forEach(([, count], index) => {
    const height = (count / top) * 95;
    draw(svg, "rect", { x: index * width + 1, width: Math.max(width - 2, 1), y: 100 - height, height, class: "bar" });
  });
  const step = Math.ceil(buckets.length / 8);
  buckets.forEach(([upper], index) => {
    if (index % step === 0) draw(svg, "text", { x: index * width + 1, y: 115 }, `≤ ${duration(upper)}`);
  });
}

function cell(row, text, isNumber) {
  const td = row.insertCell();
  td.textContent = text;
  if (isNumber) td.className = "number";
}

function make(parent, name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  parent.append(made);
  return made;
}

function torrentSection(info_hash) {
  const id = `torrent-${info_hash}`;
  let section = element(id);
  if (!section) {
    section = make(element("torrents"), "section");
    section.id = id;
    make(section, "h2");
    make(section, "p", undefined, "facts");
    make(section, "h3", "Availability of pieces among connected peers");
    const map = make(section, "canvas");
    map.setAttribute("role", "img");
    make(section, "h3", "Peers");
    const table = make(make(section, "div", undefined, "scroll"), "table");
    const head = table.createTHead().insertRow();
    ["Address", "Client"].forEach((title) => make(head, "th", title));
    ["Upload", "Download", "Sent", "Has"].forEach((title) => make(head, "th", title, "number"));
    make(head, "th", "Idle");
    table.createTBody();
  }
  return section;
}

function drawMap(canvas, { availability, rarest, pieces, pieces_had }) {
  const style = getComputedStyle(document.documentElement);
  canvas.hidden = availability.length === 0;
  canvas.width = Math.max(availability.length, 1);
  canvas.height = 1;
  canvas.setAttribute("aria-label", `${counted(rarest, "connected peer")} with the rarest piece`);
  const context = canvas.getContext("2d");
  const top = Math.max(1, ...availability);
  // A piece that no peer has is a problem only if we lack it too.
  const nowhere = pieces_had === pieces ? "--map-1" : "--map-0";
  availability.forEach((count, index) => {
    context.globalAlpha = 1;
    context.fillStyle = style.getPropertyValue(count === 0 ? nowhere : "--map-1");
    context.fillRect(index, 0, 1, 1);
    context.globalAlpha = count / top;
    context.fillStyle = style.getPropertyValue("--map-9");
    context.fillRect(index, 0, 1, 1);
  });
}

function drawTorrent(torrent) {
  const section = torrentSection(torrent.info_hash);
  const percent = torrent.pieces ? (100 * torrent.pieces_had) / torrent.pieces : 100;
  section.querySelector("h2").textContent = torrent.name;
  const facts = [bytes(torrent.length), `${percent.toFixed(percent === 100 ? 0 : 1)} % complete`, `sent ${bytes(torrent.uploaded)}`,
    `${torrent.hosts_complete} of ${counted(torrent.hosts_seen, "host")} complete`, `${counted(torrent.peers, "peer")} connected`,
    `tracker: ${counted(torrent.seeders, "seeder")}, ${counted(torrent.leechers, "leecher")}, ${torrent.completed} downloaded`];
  if (torrent.failed) facts.push("STORAGE FAILED OR FILES CHANGED");
  const line = section.querySelector(".facts");
  line.textContent = facts.join(" · ");
  line.classList.toggle("bad", torrent.failed);
  drawMap(section.querySelector("canvas"), torrent);
  const body = section.querySelector("tbody");
  body.replaceChildren();
  for (const peer of torrent.peer_list) {
    const row = body.insertRow();
    cell(row, peer.address);
    cell(row, peer.client || "?");
    cell(row, rate(peer.up_bytes_per_s), true);
    cell(row, rate(peer.down_bytes_per_s), true);
    cell(row, bytes(peer.uploaded), true);
    cell(row, torrent.pieces ? `${((100 * peer.pieces_had) / torrent.pieces).toFixed(0)} %` : "–", true);
    cell(row, peer.idle);
  }
}

function show(now) {
  element("state").textContent = `version ${now.version}, running for ${Math.floor(now.seconds)} s, port ${now.port}`;
  element("up").textContent = rate(now.up_bytes_per_s);
  element("down").textContent = rate(now.down_bytes_per_s);
  element("sent").textContent = bytes(now.uploaded);
  element("connections").textContent = now.connections;
  element("memory").textContent = bytes(now.memory_anon);
  element("hashed").textContent = now.hashed_pieces;
  element("announces").textContent = now.tracker.http_announces + now.tracker.udp_announces;
  const busy = now.cpu_user_s + now.cpu_system_s;
  if (last && now.seconds > last.seconds) {
    element("cpu").textContent = `${((100 * (busy - last.busy)) / (now.seconds - last.seconds)).toFixed(0)} %`;
  }
  if (!last || now.seconds > last.seconds) {
    last = { seconds: now.seconds, busy };
    rates.push({ up: now.up_bytes_per_s, down: now.down_bytes_per_s });
    if (rates.length > KEPT) rates.shift();
  }
  drawRates();
  drawLatency(now.latency_buckets);
  now.torrents.forEach(drawTorrent);
}

async function start() {
  const before = await fetch("rates").then((answer) => answer.json(), () => []);
  rates.push(...before.map(([up, down]) => ({ up, down })).slice(-KEPT));
  const events = new EventSource("events");
  events.onmessage = (event) => show(JSON.parse(event.data));
  events.onerror = () => {
    element("state").textContent = "no connection to the origin";
  };
}

start();

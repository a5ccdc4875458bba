// The watch page: plays the stream named in the page's address and shows how it does. Asks this origin only.
"use strict";

const stream = location.pathname.split("/").pop();
const base = `/live/${stream}/`;
const byId = (id) => document.getElementById(id);
const video = byId("video");
let hls = null;
let stalls = 0;
let playing = false;

document.title = stream;
byId("stream").textContent = stream;

function play() {
  if (window.Hls && Hls.isSupported()) {
    // A player that fell behind catches up at a speed that nobody hears.
    hls = new Hls({ lowLatencyMode: true, maxLiveSyncPlaybackRate: 1.05, backBufferLength: 30 });
    hls.on(Hls.Events.MANIFEST_PARSED, (_, data) => listLevels(data.levels));
    hls.on(Hls.Events.ERROR, (_, error) => error.fatal && recover(error));
    hls.loadSource(`${base}index.m3u8`);
    hls.attachMedia(video);
  } else {
    video.src = `${base}index.m3u8`;
  }
}

// A media error is mended in place once in a while; anything else starts anew after two seconds.
let mendedAt = 0;
function recover(error) {
  if (error.type === Hls.ErrorTypes.MEDIA_ERROR && Date.now() - mendedAt > 5000) {
    mendedAt = Date.now();
    hls.recoverMediaError();
    return;
  }
  hls.destroy();
  hls = null;
  setTimeout(play, 2000);
}

function listLevels(levels) {
  const select = byId("levels");
  select.replaceChildren(new Option("automatic", -1));
  levels.forEach((level, index) => select.append(new Option(levelName(level), index)));
  select.onchange = () => { if (hls) hls.currentLevel = Number(select.value); };
}

function levelName(level) {
  return level.height ? `${level.height}p` : "audio only";
}

video.addEventListener("playing", () => { playing = true; });
video.addEventListener("waiting", () => { if (playing) byId("stalls").textContent = ++stalls; });

const seconds = (value) => Number.isFinite(value) ? `${value.toFixed(2)} s` : "–";
const kilobits = (bps) => bps ? `${Math.round(bps / 1000)} kbit/s` : "–";

function showPlayer() {
  const { buffered } = video;
  const ahead = buffered.length ? buffered.end(buffered.length - 1) - video.currentTime : NaN;
  const level = hls && hls.levels[hls.currentLevel];
  const date = hls && hls.playingDate;
  byId("latency").textContent = seconds(date ? (Date.now() - date.getTime()) / 1000 : NaN);
  byId("rung").textContent = level ? levelName(level) : video.videoHeight ? `${video.videoHeight}p` : "–";
  byId("buffer").textContent = seconds(ahead);
  const quality = video.getVideoPlaybackQuality && video.getVideoPlaybackQuality();
  if (quality) byId("dropped").textContent = `${quality.droppedVideoFrames} of ${quality.totalVideoFrames}`;
}

function row(rung) {
  const picture = rung.kind === "video"
    ? `${rung.width}×${rung.height}, ${rung.frame_rate.toFixed(2)} fps${rung.transcoded ? "" : ", as published"}`
    : rung.kind === "audio" ? `${rung.channels} channel${rung.channels === 1 ? "" : "s"}` : "–";
  const part = rung.msn === null ? "–" : `${rung.msn}.${rung.part}`;
  const age = rung.latency_ms === null ? "–" : `${Math.max(0, rung.latency_ms)} ms ago`;
  const tr = document.createElement("tr");
  for (const text of [rung.rung, picture, rung.codecs || "–", kilobits(rung.bitrate_bps), part, age]) {
    tr.insertCell().textContent = text;
  }
  return tr;
}

// A stream that nobody publishes looks like one that loads for ever, unless it is said. `showStatus` and `recover` go on
// looking, so it plays as soon as it is there.
function showAbsent(absent) {
  byId("absent").hidden = !absent;
  byId("absent").textContent = absent ? `No stream ${stream} is live. It plays here as soon as it is.` : "";
  video.hidden = absent;
}

async function showStatus() {
  const state = byId("state");
  try {
    const response = await fetch(`${base}status.json`);
    showAbsent(response.status === 404);
    if (!response.ok) throw new Error(response.status === 404 ? "not live" : `error ${response.status}`);
    const status = await response.json();
    state.textContent = status.live ? "live" : "ended";
    state.className = `badge ${status.live ? "live" : ""}`;
    // The estimate is some seconds old; this viewer is one.
    byId("viewers").textContent = `about ${Math.max(status.viewers_estimate, playing ? 1 : 0)}`;
    byId("rungs").replaceChildren(...status.rungs.map(row));
    const advice = status.health && status.health.advice;
    byId("health").textContent = Array.isArray(advice) ? advice.join(" · ") : advice || "";
  } catch (error) {
    state.textContent = error.message;
    state.className = "badge";
  }
}

play();
showStatus();
setInterval(showPlayer, 250);
setInterval(showStatus, 1000);

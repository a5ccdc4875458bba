// The console: asks the API every two seconds and shows what it says. Text is set as text, never as markup.
'use strict';

const EVERY_MS = 2000;
const EVENTS = 30;

async function ask(path) {
  const answer = await fetch(path, { cache: 'no-store' });
  const body = await answer.json();
  if (!answer.ok) throw new Error(`${body.error}: ${body.what_to_do}`);
  return body;
}

function cell(content, kind) {
  const td = document.createElement('td');
  td.append(content ?? '–');
  if (kind) td.className = kind;
  return td;
}

function show(id, rows, nothing) {
  const lines = rows.map((cells) => {
    const tr = document.createElement('tr');
    tr.append(...cells.map((c) => (c instanceof HTMLElement && c.tagName === 'TD' ? c : cell(c))));
    return tr;
  });
  if (lines.length === 0) {
    const td = cell(nothing);
    td.colSpan = 9;
    const tr = document.createElement('tr');
    tr.append(td);
    lines.push(tr);
  }
  document.getElementById(id).replaceChildren(...lines);
}

// Where players connect: the origin's own address, or this page's host when it listens on all interfaces.
function watchLink(stream, origins) {
  if (origins.length === 0) return stream;
  const [, host, port] = origins[0].playback.match(/^(.*):(\d+)$/);
  const everywhere = host === '0.0.0.0' || host === '[::]';
  const link = document.createElement('a');
  link.href = `http://${everywhere ? location.hostname : host}:${port}/watch/${stream}`;
  link.textContent = stream;
  return link;
}

function rungText(rung) {
  const video = rung.kind.video;
  const picture = video ? ` ${video.width}×${video.height} ${video.bitrate_kbps} kbit/s` : '';
  const at = rung.published ? ` · ${rung.published.msn}.${rung.published.part}` : '';
  return `${rung.id}${picture}${at}`;
}

// While the publisher is away the stream goes on without it for a grace time, under the same state.
const isAway = (stream) => typeof stream.publisher?.away_s === 'number';

const stateText = (stream) => (isAway(stream) ? `${stream.state}, publisher away ${stream.publisher.away_s} s` : stream.state);

// What was measured of a publisher that is gone says nothing of now.
function healthCell({ health, ...stream }) {
  if (!health || isAway(stream)) return cell();
  const number = (value, digits, unit) => (typeof value === 'number' ? `${value.toFixed(digits)} ${unit}` : null);
  const facts = [
    number(health.bitrate_kbps, 0, 'kbit/s'),
    number(health.fps, 1, 'fps'),
    number(health.keyframe_interval_s, 1, 's between keyframes'),
  ].filter(Boolean).join(' · ');
  const advice = health.advice ?? [];
  return cell([facts, ...advice].join('\n'), advice.length > 0 ? 'bad' : '');
}

const at = (when) => new Date(when).toLocaleTimeString();

const mega = (value) => `${(value / 1e6).toFixed(0)} Mpx/s`;

// Left out where it is not limited.
const limit = (value, unit, digits, name) => (value === undefined ? 'no limit' : `${(value / unit).toFixed(digits)} ${name}`);

async function refresh() {
  const note = document.getElementById('note');
  try {
    const [streams, nodes, events, origins] = await Promise.all([
      ask('/v1/streams'), ask('/v1/nodes'), ask(`/v1/events?limit=${EVENTS}`), ask('/v1/origins'),
    ]);
    show('streams', streams.streams.map((s) => [
      watchLink(s.stream, origins.origins), stateText(s), s.node, s.worker_pid && String(s.worker_pid), String(s.restarts ?? 0),
      (s.rungs ?? []).map(rungText).join('\n'), healthCell(s),
    ]), 'No stream is live.');
    show('nodes', nodes.nodes.map((n) => [
      n.node, n.reachable ? n.state : cell(`${n.state}, does not answer`, 'bad'), n.streams && String(n.streams.length),
      mega(n.decode_pixels_per_second), mega(n.encode_pixels_per_second), `${(n.memory_bytes / 2 ** 30).toFixed(1)} GiB`,
      limit(n.host_cpu_millicores, 1e3, 1, 'cores'), limit(n.egress_bits_per_second, 1e6, 0, 'Mbit/s'), n.version,
    ]), 'No node is registered.');
    show('events', events.events.reverse().map((e) => [at(e.at), e.stream, e.kind, e.subject, e.reason, e.text]), 'Nothing has happened yet.');
    const missing = streams.missing.map((m) => m.name);
    note.textContent = missing.length ? `no answer from ${missing.join(', ')}` : `as of ${new Date().toLocaleTimeString()}`;
    note.className = missing.length ? 'bad' : '';
  } catch (error) {
    note.textContent = String(error.message ?? error);
    note.className = 'bad';
  }
  setTimeout(refresh, EVERY_MS);
}

refresh();

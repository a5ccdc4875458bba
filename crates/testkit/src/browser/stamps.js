// Decides what a player shows: every frame that reaches the compositor, as a small picture of luma,
// with the times it was shown at. Deliberately does not read frame numbers out of the picture
// (`stamp.rs` does) and does not start, seek or stop the player.
(video, columns, rows) => {
  const canvas = Object.assign(document.createElement('canvas'), { width: columns, height: rows });
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.imageSmoothingQuality = 'medium';
  const watch = { frames: [], events: [], watching: true };

  // BT.601 luma, one byte a pixel, in base64: a third of the same picture as JSON numbers.
  const luma = () => {
    context.drawImage(video, 0, 0, columns, rows);
    const rgba = context.getImageData(0, 0, columns, rows).data;
    let pixels = '';
    for (let i = 0; i < rgba.length; i += 4) {
      const [red, green, blue] = rgba.subarray(i, i + 3);
      pixels += String.fromCharCode(Math.round(0.299 * red + 0.587 * green + 0.114 * blue));
    }
    return btoa(pixels);
  };

  const onFrame = (now, { mediaTime, presentedFrames }) => {
    if (!watch.watching) return;
    watch.frames.push({ mediaTime, presentedFrames, now, luma: luma() });
    video.requestVideoFrameCallback(onFrame);
  };
  video.requestVideoFrameCallback(onFrame);

  for (const name of ['waiting', 'stalled', 'playing', 'seeking', 'ended', 'error']) {
    video.addEventListener(name, () => {
      if (!watch.watching) return;
      const { error, currentTime } = video;
      const detail = name === 'error' && error ? `${error.code} ${error.message}` : '';
      watch.events.push({ name, now: performance.now(), currentTime, detail });
    });
  }

  // What was seen since the last call. `last`: stop watching.
  watch.take = (last) => {
    const quality = video.getVideoPlaybackQuality();
    watch.watching = !last;
    return {
      frames: watch.frames.splice(0),
      events: watch.events.splice(0),
      videoWidth: video.videoWidth,
      videoHeight: video.videoHeight,
      currentTime: video.currentTime,
      decodedFrames: quality.totalVideoFrames,
      droppedFrames: quality.droppedVideoFrames,
    };
  };
  return watch;
}

//! The harness against pages of its own: no player, no network.

use super::*;

use crate::stamp;

/// A page that shows one picture as a video: `{width}` and `{height}` in pixels, `{luma}` in
/// base64, redrawn 25 times a second.
const PICTURE: &str = "data:text/html,<video muted></video><script>
const canvas = Object.assign(document.createElement('canvas'), { width: WIDTH, height: HEIGHT });
const context = canvas.getContext('2d');
const image = context.createImageData(WIDTH, HEIGHT);
[...atob('LUMA')].forEach((pixel, i) =>
  image.data.set([...Array(3).fill(pixel.charCodeAt()), 255], 4 * i));
setInterval(() => context.putImageData(image, 0, 0), 40);
const video = document.querySelector('video'); video.srcObject = canvas.captureStream(25); video.play();
</script>";

fn showing(number: u32, width: usize, height: usize) -> String {
    let mut picture = vec![0; stamp::picture_bytes(width, height)];
    stamp::draw(number, width, height, &mut picture);
    let luma = data_encoding::BASE64.encode(&picture[..width * height]).replace('+', "%2B");
    PICTURE
        .replace("WIDTH", &width.to_string())
        .replace("HEIGHT", &height.to_string())
        .replace("LUMA", &luma)
}

#[tokio::test]
async fn a_script_returns_values_awaits_promises_and_reports_what_it_threw() {
    let mut browser = Browser::launch().await.unwrap();
    browser.open("data:text/html,<title>first</title>").await.unwrap();
    assert_eq!(browser.evaluate("document.title").await.unwrap(), json!("first"));
    let promise = "new Promise(done => setTimeout(() => done({ n: [1, 2] }), 50))";
    assert_eq!(browser.evaluate(promise).await.unwrap(), json!({ "n": [1, 2] }));
    let error = browser.evaluate("Promise.reject(new Error('no such rung'))").await.unwrap_err();
    assert!(error.to_string().contains("no such rung"), "{error}");
    let error = browser
        .evaluate_within("new Promise(() => {})", Duration::from_millis(200))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("not answered"), "{error}");
    assert_eq!(browser.evaluate("1 + 1").await.unwrap(), json!(2));
    assert!(browser.open("http://127.0.0.1:1/").await.is_err());
}

#[tokio::test]
async fn the_console_keeps_logs_and_uncaught_exceptions() {
    let mut browser = Browser::launch().await.unwrap();
    let page = "data:text/html,<script>console.warn('level', 3, {a: 1});
        setTimeout(() => { throw new Error('lost') })</script>";
    browser.open(page).await.unwrap();
    browser.evaluate("new Promise(done => setTimeout(done, 50))").await.unwrap();
    let lines = browser.console();
    assert!(
        lines.iter().any(|line| line.level == "warning" && line.text == "level 3 Object"),
        "{lines:?}"
    );
    assert!(
        lines.iter().any(|line| line.level == "exception" && line.text.contains("lost")),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_watch_sees_each_frame_of_a_video_once_and_reads_its_number() {
    let mut browser = Browser::launch().await.unwrap();
    for (number, width, height) in [(123_456, 320, 180), (7, 640, 480)] {
        browser.open(&showing(number, width, height)).await.unwrap();
        let watch = browser.watch_frames("video").await.unwrap();
        let ten = "new Promise(done => { const look = () =>
            frameWatches[0].frames.length < 10 ? setTimeout(look, 20) : done(); look() })";
        browser.evaluate(ten).await.unwrap();
        let seen = watch.take(&mut browser).await.unwrap();
        assert_eq!((seen.video_width as usize, seen.video_height as usize), (width, height));
        assert!(seen.decoded_frames >= 10 && seen.longest_freeze_ms() > 0.0, "{seen:?}");
        assert!(
            seen.frames.windows(2).all(|pair| pair[0].presented_frames < pair[1].presented_frames)
        );
        assert_eq!(seen.frames.last().unwrap().number(), Some(number));
        assert!(watch.finish(&mut browser).await.unwrap().frames.len() < seen.frames.len());
    }
    assert!(browser.watch_frames("audio").await.is_err());
}

#[tokio::test]
async fn a_screenshot_is_a_png_and_a_dropped_browser_leaves_nothing() {
    let mut browser = Browser::launch().await.unwrap();
    assert!(browser.screenshot().await.unwrap().starts_with(b"\x89PNG"));
    let (group, profile) =
        (Pid::from_raw(i32::try_from(browser.process.id()).unwrap()), browser.profile.clone());
    drop(browser);
    let deadline = Instant::now() + Duration::from_secs(10);
    while killpg(group, None).is_ok() || profile.exists() {
        assert!(Instant::now() < deadline, "group {group} or {} still there", profile.display());
        sleep(Duration::from_millis(20)).await;
    }
}

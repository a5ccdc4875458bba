//! Scales a picture of 4:2:0 and 8 bits: each of its three planes by a scaler of its own.

use millrace_transcode::{Frame as _, Size};

use crate::{
    Picture,
    bicubic::Siting,
    plane_scaler::{Plane, PlaneScaler},
};

/// A scaler from one size of 4:2:0 to another.
#[derive(Debug)]
pub(crate) struct PictureScaler {
    from: Size,
    to: Size,
    luma: PlaneScaler,
    chroma: PlaneScaler,
}

impl PictureScaler {
    /// `None` where [`PlaneScaler`] cannot.
    pub(crate) fn new(from: Size, to: Size) -> Option<Self> {
        let luma = PlaneScaler::new(of_plane(from, 0), of_plane(to, 0), Siting::Centre)?;
        let chroma = PlaneScaler::new(of_plane(from, 1), of_plane(to, 1), Siting::Left)?;
        Some(Self { from, to, luma, chroma })
    }

    /// Whether it was done: not when rows do not lie as they usually do.
    pub(crate) fn scale(&mut self, frame: &Picture, scaled: &mut Picture) -> bool {
        debug_assert_eq!((frame.size(), scaled.size()), (self.from, self.to));
        (0..3).all(|index| {
            let scaler = if index == 0 { &mut self.luma } else { &mut self.chroma };
            let (from, to) = (of_plane(self.from, index), of_plane(self.to, index));
            match (plane(frame, index, from), plane_mut(scaled, index, to)) {
                (Some(from), Some((bytes, stride))) if scaler.takes_rows_of(stride) => {
                    scaler.scale(from, bytes, stride);
                    true
                }
                _ => false,
            }
        })
    }
}

/// Width and height of a plane of 4:2:0.
fn of_plane(size: Size, index: usize) -> (usize, usize) {
    let (width, height) = (size.width as usize, size.height as usize);
    if index == 0 { (width, height) } else { (width.div_ceil(2), height.div_ceil(2)) }
}

/// The bytes of a plane; the last row ends with its last sample.
fn plane(picture: &Picture, index: usize, (width, height): (usize, usize)) -> Option<Plane<'_>> {
    let fields = picture.fields();
    let stride = usize::try_from(fields.linesize[index]).ok().filter(|stride| *stride >= width)?;
    let data = fields.data[index];
    if data.is_null() || height == 0 {
        return None;
    }
    // SAFETY: FFmpeg's frame holds `height` rows, `stride` bytes apart, and nobody writes them while it is borrowed.
    let bytes = unsafe { std::slice::from_raw_parts(data, stride * (height - 1) + width) };
    Some(Plane { bytes, stride })
}

/// The bytes of a plane that is to be written, whole rows, and their distance.
fn plane_mut(
    picture: &mut Picture,
    index: usize,
    (width, height): (usize, usize),
) -> Option<(&mut [u8], usize)> {
    let fields = picture.fields_mut();
    let stride = usize::try_from(fields.linesize[index]).ok().filter(|stride| *stride >= width)?;
    let data = fields.data[index];
    if data.is_null() {
        return None;
    }
    // SAFETY: `av_frame_get_buffer` gave each plane `height` whole rows of `stride` bytes, and nobody else refers to them.
    let bytes = unsafe { std::slice::from_raw_parts_mut(data, stride * height) };
    Some((bytes, stride))
}

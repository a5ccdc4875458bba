//! Writes ISO base media boxes (ISO/IEC 14496-12) into one growing buffer; sizes are filled in when a box closes.

use bytes::{BufMut, BytesMut};

/// Appends a box of type `kind` whose payload `body` writes.
pub(super) fn boxed(out: &mut BytesMut, kind: &[u8; 4], body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32(0);
    out.put_slice(kind);
    body(out);
    let size = u32::try_from(out.len() - start).expect("invariant: a box is smaller than 4 GiB");
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

/// Appends a box that carries a version and 24 bits of flags.
pub(super) fn full_box(
    out: &mut BytesMut,
    kind: &[u8; 4],
    version: u8,
    flags: u32,
    body: impl FnOnce(&mut BytesMut),
) {
    boxed(out, kind, |out| {
        out.put_u32(u32::from(version) << 24 | flags);
        body(out);
    });
}

/// Appends `count` zero bytes.
pub(super) fn zeros(out: &mut BytesMut, count: usize) {
    out.put_bytes(0, count);
}

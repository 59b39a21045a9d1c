//! File attributes, the `ATTRS` structure (section 5 of the draft).

use bytes::BufMut;

use super::wire::{DecodeError, Fields};

const SIZE: u32 = 0x0000_0001;
const UID_GID: u32 = 0x0000_0002;
const PERMISSIONS: u32 = 0x0000_0004;
const TIMES: u32 = 0x0000_0008;
const EXTENDED: u32 = 0x8000_0000;

/// What is said about a file; a field that is absent is neither known nor to be changed.
///
/// Wire: `uint32 flags`, then those of `uint64 size`, `uint32 uid · uint32 gid`, `uint32 permissions`,
/// `uint32 atime · uint32 mtime` whose flag is set. Extended pairs are read and dropped: version 3 defines none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Attrs {
    pub(super) size: Option<u64>,
    pub(super) owner: Option<Owner>,
    /// `st_mode` with the bits of the file type in what is sent; only the lower twelve bits of what is received count.
    pub(super) mode: Option<u32>,
    pub(super) times: Option<Times>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Seconds since 1970, which in this protocol end in 2106; fractions do not exist in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) accessed: u32,
    pub(super) modified: u32,
}

impl Attrs {
    pub(super) fn decode(fields: &mut Fields) -> Result<Self, DecodeError> {
        let flags = fields.uint32("attribute flags")?;
        let mut attrs = Self::default();
        if flags & SIZE != 0 {
            attrs.size = Some(fields.uint64("size")?);
        }
        if flags & UID_GID != 0 {
            attrs.owner = Some(Owner { uid: fields.uint32("uid")?, gid: fields.uint32("gid")? });
        }
        if flags & PERMISSIONS != 0 {
            attrs.mode = Some(fields.uint32("permissions")?);
        }
        if flags & TIMES != 0 {
            attrs.times = Some(Times {
                accessed: fields.uint32("access time")?,
                modified: fields.uint32("modification time")?,
            });
        }
        if flags & EXTENDED != 0 {
            // Each pair takes at least eight bytes of the packet, so a large count fails early.
            for _ in 0..fields.uint32("extended attribute count")? {
                fields.string("extended attribute type")?;
                fields.string("extended attribute data")?;
            }
        }
        Ok(attrs)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut flags = 0;
        flags |= if self.size.is_some() { SIZE } else { 0 };
        flags |= if self.owner.is_some() { UID_GID } else { 0 };
        flags |= if self.mode.is_some() { PERMISSIONS } else { 0 };
        flags |= if self.times.is_some() { TIMES } else { 0 };
        out.put_u32(flags);
        if let Some(size) = self.size {
            out.put_u64(size);
        }
        if let Some(owner) = self.owner {
            out.put_u32(owner.uid);
            out.put_u32(owner.gid);
        }
        if let Some(mode) = self.mode {
            out.put_u32(mode);
        }
        if let Some(times) = self.times {
            out.put_u32(times.accessed);
            out.put_u32(times.modified);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        pub(in crate::sftp) fn any_attrs()(
            size in any::<Option<u64>>(),
            owner in any::<Option<(u32, u32)>>(),
            mode in any::<Option<u32>>(),
            times in any::<Option<(u32, u32)>>(),
        ) -> Attrs {
            Attrs {
                size,
                owner: owner.map(|(uid, gid)| Owner { uid, gid }),
                mode,
                times: times.map(|(accessed, modified)| Times { accessed, modified }),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(attrs in any_attrs()) {
            let mut out = Vec::new();
            attrs.encode(&mut out);
            let mut fields = Fields::new(out.into());
            prop_assert_eq!(Attrs::decode(&mut fields), Ok(attrs));
            prop_assert!(fields.is_empty());
        }

        #[test]
        fn every_cut_is_noticed(attrs in any_attrs(), cut in any::<proptest::sample::Index>()) {
            let mut out = Vec::new();
            attrs.encode(&mut out);
            out.truncate(cut.index(out.len()));
            prop_assert!(Attrs::decode(&mut Fields::new(out.into())).is_err());
        }
    }

    #[test]
    fn extended_pairs_are_skipped() {
        let bytes = b"\x80\0\0\x04\0\0\x01\xed\0\0\0\x01\0\0\0\x03a@b\0\0\0\x01xrest";
        let mut fields = Fields::new(Bytes::from_static(bytes));
        assert_eq!(Attrs::decode(&mut fields), Ok(Attrs { mode: Some(0o755), ..Attrs::default() }));
        assert!(!fields.is_empty());
    }

    #[test]
    fn an_absurd_pair_count_ends_with_the_packet() {
        let mut fields = Fields::new(Bytes::from_static(b"\x80\0\0\0\xff\xff\xff\xff\0\0\0\0\0\0\0\0"));
        assert_eq!(
            Attrs::decode(&mut fields),
            Err(DecodeError::Truncated { field: "extended attribute type" })
        );
    }
}

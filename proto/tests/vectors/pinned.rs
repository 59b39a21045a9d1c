//! Peers of another release: the vectors as they were then, in the folders of `pinned/`, against the code of today.
//!
//! A folder is made at a release by copying (its README says how), and is found here by being there. What docs/protocol.md
//! says of releases that meet is what is tested.

use super::{Frame, NAMES, SHAPES, blocks, bytes, messages, payload::Value, reencode, title};
use bytes::BytesMut;
use std::{collections::BTreeSet, fs, path::Path};

/// The files of one folder.
struct Pinned {
    name: String,
    frames: String,
    names: String,
    shapes: String,
}

fn pinned() -> Vec<Pinned> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/pinned");
    let entries = fs::read_dir(&folder).expect("the folder of the pinned sets");
    let folders = entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir());
    let read = |path: &Path, file: &str| {
        let path = path.join(file);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let sets: Vec<_> = folders
        .map(|path| Pinned {
            name: path.file_name().expect("a name").display().to_string(),
            frames: read(&path, "frames.txt"),
            names: read(&path, "names.txt"),
            shapes: read(&path, "shapes.txt"),
        })
        .collect();
    assert!(!sets.is_empty(), "{} has no set", folder.display());
    sets
}

#[test]
fn every_frame_of_another_release_is_read_with_all_that_it_says() {
    for set in pinned() {
        for block in blocks(&set.frames) {
            let (wire, frame) = (bytes(block, "wire"), frame(block));
            // "Ping with the largest token" is a Ping.
            let name = title(block).split([' ', ',']).next().expect("a word");
            assert_eq!(frame.frame_type.to_string(), name, "{} has\n\n{block}", set.name);
            if !block.contains("\ncbor ") {
                assert!(reencode(&frame).is_err(), "{name} was no CBOR in {}", set.name);
                continue;
            }
            let read = reencode(&frame);
            let read = read.unwrap_or_else(|error| panic!("{error}; {} has\n\n{block}", set.name));
            assert_eq!(
                read.to_bytes(),
                wire,
                "{name} is not what it was; {} has\n\n{block}\n\nwhich is now {:?}",
                set.name,
                Value::read(&read.payload)
            );
        }
    }
}

/// Two fields of one type that changed places would be read, and mean something else.
#[test]
fn every_frame_of_another_release_means_what_it_did() {
    for set in pinned() {
        for block in blocks(&set.frames).into_iter().filter(|block| block.contains("\ncbor ")) {
            let pinned = frame(block);
            let payload = Value::read(&pinned.payload);
            let is_there = messages().iter().any(|vector| {
                vector.frame.frame_type == pinned.frame_type
                    && Value::read(&vector.frame.payload).reduced_to(&payload) == payload
            });
            assert!(is_there, "frames.txt has no vector that says what {} has in\n\n{block}", set.name);
        }
    }
}

#[test]
fn nothing_has_gone_that_another_release_knows_and_what_has_come_may_be_missing() {
    for set in pinned() {
        for before in blocks(&set.shapes) {
            let now = blocks(SHAPES).into_iter().find(|block| title(block) == title(before));
            let now = now.unwrap_or_else(|| panic!("{} has {}, which has gone", set.name, title(before)));
            let is_new = |line: &&str| !before.lines().any(|known| known == *line);
            for line in before.lines() {
                assert!(
                    now.lines().any(|known| known == line),
                    "{} has `{line}` in\n\n{before}\n\nand now it is\n\n{now}",
                    set.name
                );
            }
            let new: Vec<_> =
                now.lines().filter(is_new).filter_map(|line| line.strip_prefix("field ")).collect();
            let new_paths: BTreeSet<_> = new.iter().copied().map(path).collect();
            for field in &new {
                let is_in_a_new_map =
                    path(field).rsplit_once('.').is_some_and(|(above, _)| new_paths.contains(above));
                assert!(
                    field.contains('?') || is_in_a_new_map,
                    "{} knows no field `{field}`, so it must be optional:\n\n{now}",
                    set.name
                );
            }
        }
    }
}

#[test]
fn frame_numbers_of_another_release_are_given_to_nothing_else() {
    for set in pinned() {
        let number_of = |block: &str| super::value(block, "number");
        for before in blocks(&set.shapes).into_iter().filter(|block| !number_of(block).is_empty()) {
            for now in blocks(SHAPES) {
                assert_eq!(
                    number_of(now) == number_of(before),
                    title(now) == title(before),
                    "{} has\n\n{before}\n\nand now there is\n\n{now}",
                    set.name
                );
            }
        }
    }
}

/// Keys, fingerprints, pins and what is signed. Of generated IDs nobody may expect a form.
#[test]
fn names_and_proofs_of_another_release_are_those_of_today() {
    for set in pinned() {
        for block in blocks(&set.names).iter().filter(|block| !title(block).starts_with("generated ID")) {
            assert!(blocks(NAMES).contains(block), "{} has\n\n{block}\n\nwhich has changed", set.name);
        }
    }
}

/// The keys of a field's line, without the mark of an optional one.
fn path(field: &str) -> &str {
    field.split([' ', '?']).next().expect("a path")
}

fn frame(block: &str) -> Frame {
    let mut wire = BytesMut::from(&bytes(block, "wire")[..]);
    let frame = Frame::decode(&mut wire).expect("a frame").expect("the whole frame");
    assert!(wire.is_empty(), "{block}");
    frame
}

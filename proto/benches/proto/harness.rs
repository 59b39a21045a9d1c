//! Pieces of work that criterion times and `scripts/count-instructions` counts: the same ones, by the same names.

use criterion::{Criterion, Throughput};

/// Does a piece of work once.
pub(crate) type Work = Box<dyn FnMut()>;

/// A piece of work.
pub(crate) struct Piece {
    /// `group/name`.
    pub(crate) name: &'static str,
    /// How many bytes of a session it moves.
    pub(crate) bytes: u64,
    /// Sets it up, which neither counts nor takes time.
    pub(crate) prepare: fn() -> Work,
}

/// Times all pieces. Or, with `--pieces`, prints their names; or, with `--repeat NAME TIMES`, sets one up, does it so often,
/// and nothing else.
pub(crate) fn run(pieces: &[Piece]) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--pieces", ..] => pieces.iter().for_each(|piece| println!("{}", piece.name)),
        ["--repeat", name, times, ..] => {
            let piece = pieces.iter().find(|piece| piece.name == name).expect("a piece of this name");
            let mut work = (piece.prepare)();
            (0..times.parse().expect("a number of times")).for_each(|_: u32| work());
        }
        _ => time(pieces),
    }
}

fn time(pieces: &[Piece]) {
    let mut criterion = Criterion::default().configure_from_args();
    for piece in pieces {
        let (group, name) = piece.name.split_once('/').unwrap_or(("", piece.name));
        let mut group = criterion.benchmark_group(group);
        group.throughput(Throughput::Bytes(piece.bytes));
        group.bench_function(name, |bencher| bencher.iter((piece.prepare)()));
        group.finish();
    }
    criterion.final_summary();
}

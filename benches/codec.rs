//! Time to read and write a peer message, and to read a metainfo file.

use std::hint::black_box;

use bt_fast::codec::message::{Bounds, Decoded, Message, decode, encode_piece_head};
use bt_fast::codec::metainfo::{Metainfo, MetainfoLimits};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const MESSAGES: u32 = 1000;
const BLOCK_LEN: u32 = 16 << 10;
const BOUNDS: Bounds = Bounds { piece_count: 262_144, block_len_max: BLOCK_LEN };

fn request(index: u32) -> Message<'static> {
    Message::Request { index, begin: index % 16 * BLOCK_LEN, length: BLOCK_LEN }
}

fn have(index: u32) -> Message<'static> {
    Message::Have { index }
}

fn encoded(message: fn(u32) -> Message<'static>) -> Vec<u8> {
    let mut bytes = Vec::new();
    (0..MESSAGES).for_each(|index| message(index).encode(&mut bytes));
    bytes
}

/// Reads all messages and returns their number.
fn decode_all(mut bytes: &[u8]) -> u32 {
    let mut count = 0;
    while let Ok(Decoded::Message { consumed, .. }) = decode(bytes, &BOUNDS) {
        bytes = &bytes[consumed..];
        count += 1;
    }
    count
}

fn messages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("message");
    group.throughput(Throughput::Elements(u64::from(MESSAGES)));
    for (name, message) in [("request", request as fn(u32) -> Message<'static>), ("have", have)] {
        let bytes = encoded(message);
        assert_eq!(decode_all(&bytes), MESSAGES);
        group.bench_function(format!("decode {name}"), |bencher| bencher.iter(|| decode_all(black_box(&bytes))));
        group.bench_function(format!("encode {name}"), |bencher| {
            let mut out = Vec::with_capacity(bytes.len());
            bencher.iter(|| {
                out.clear();
                (0..MESSAGES).for_each(|index| message(black_box(index)).encode(&mut out));
                out.len()
            });
        });
    }
    let heads: Vec<[u8; 13]> = (0..MESSAGES).map(|index| encode_piece_head(index, 0, BLOCK_LEN)).collect();
    group.bench_function("decode piece head", |bencher| {
        bencher.iter(|| black_box(&heads).iter().filter(|head| decode(&head[..], &BOUNDS).is_ok()).count());
    });
    group.bench_function("encode piece head", |bencher| {
        bencher.iter(|| {
            for index in 0..MESSAGES {
                black_box(encode_piece_head(black_box(index), 0, BLOCK_LEN));
            }
        });
    });
    group.finish();
}

/// Returns a metainfo file of this number of pieces and files, with sorted keys as BEP 3 demands.
fn metainfo_of(pieces: usize, files: usize) -> Vec<u8> {
    let total = pieces * BLOCK_LEN as usize;
    let file_len = total / files;
    let mut info = String::new();
    for file in 0..files {
        let len = if file + 1 == files { total - file_len * (files - 1) } else { file_len };
        info += &format!("d6:lengthi{len}e4:pathl6:folder8:f{file:07}ee");
    }
    let mut bytes = format!("d4:infod5:filesl{info}e4:name4:name12:piece lengthi{BLOCK_LEN}e6:pieces{}:", pieces * 20);
    bytes.extend(std::iter::repeat_n('h', pieces * 20));
    bytes += "ee";
    bytes.into_bytes()
}

fn metainfo(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("metainfo");
    for (pieces, files) in [(2048, 1), (262_144, 1), (2048, 10_000)] {
        let bytes = metainfo_of(pieces, files);
        assert!(Metainfo::decode(&bytes, &MetainfoLimits::default()).is_ok());
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("decode {pieces} pieces in {files} files"), |bencher| {
            let decode = |bytes: &Vec<u8>| Metainfo::decode(black_box(bytes), &MetainfoLimits::default());
            bencher.iter_batched_ref(|| bytes.clone(), |bytes| decode(bytes), BatchSize::LargeInput);
        });
    }
    group.finish();
}

criterion_group!(benches, messages, metainfo);
criterion_main!(benches);

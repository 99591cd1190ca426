//! The decoders, and how much memory each may take.

use std::ops::Range;

use bytes::Bytes;
use quoin_core::bbolt::{FilePart, FileSum};
use quoin_core::boot::{Question, RemoteAnswer};
use quoin_core::config::Url;
use quoin_core::id::MemberId;
use quoin_core::node::Request;
use quoin_core::peer::{AppendDecoder, MessageDecoder};
use quoin_core::proto::raftpb::Entry;
use quoin_core::random::Prng;
use quoin_core::snapshot::{self, SnapshotFile};
use quoin_core::store::{Applied, ApplyContext, Store, StoreConfig};
use quoin_core::{api, membership::Member};

use super::damage::damage;
use super::{requests, samples};

/// A decoder of bytes that a peer sends.
struct Decoder {
    name: &'static str,
    samples: Vec<Vec<u8>>,
    /// Decodes all of it, and drops what it finds.
    decode: fn(&[u8]),
    /// Bytes of memory for each byte of the input. Two bytes are a whole entry without fields, or a member.
    factor: u64,
    /// Bytes of memory whatever the input is.
    fixed: u64,
    /// Each how many inputs are tried: files are large, so only some of the numbers are tried.
    every: u64,
}

/// Bytes of a machine, or of a store, that decodes.
const MACHINE_BYTES: u64 = 64 * 1024;
/// Inputs of one decoder before the next one has its turn, so that a run that is ended early has tried all.
const TURN: u64 = 15_000;
/// Turns of all decoders between two lines about a long run.
const REPORT_TURNS: u64 = 50;

/// Gives each decoder the damaged inputs of these numbers.
pub(crate) fn try_all(numbers: Range<u64>) {
    let decoders = all();
    let mut most = vec![0; decoders.len()];
    for (turn, from) in (1..).zip(numbers.clone().step_by(TURN as usize)) {
        for (decoder, most) in decoders.iter().zip(&mut most) {
            *most = decoder.try_some(from..(from + TURN).min(numbers.end)).max(*most);
        }
        if turn % REPORT_TURNS == 1 {
            println!(
                "{} of {} inputs",
                from - numbers.start + TURN,
                numbers.end - numbers.start
            );
        }
    }
    for (decoder, most) in decoders.iter().zip(most) {
        println!("{}: at most {most} bytes of memory", decoder.name);
        assert!(most > 0, "{} decodes nothing", decoder.name);
    }
}

impl Decoder {
    /// Tries the damaged inputs of these numbers. Returns the bytes of memory that one of them took at most.
    fn try_some(&self, numbers: Range<u64>) -> u64 {
        let mut most = 0;
        for number in numbers.step_by(self.every as usize) {
            let mut prng = Prng::new(number).fork(self.name);
            let mut bytes = self.samples[prng.below(self.samples.len() as u64) as usize].clone();
            damage(&mut bytes, &mut prng);
            let taken = allocation_counter::measure(|| (self.decode)(&bytes)).bytes_max;
            let allowed = self.fixed + self.factor * bytes.len() as u64;
            assert!(
                taken <= allowed,
                "{} took {taken} bytes of memory for {} bytes: number {number}",
                self.name,
                bytes.len()
            );
            most = most.max(taken);
        }
        most
    }
}

fn all() -> Vec<Decoder> {
    let decoder = |name, samples, decode| Decoder {
        name,
        samples,
        decode,
        factor: 200,
        fixed: 4_096,
        every: 1,
    };
    vec![
        decoder("msgappv2 stream", samples::appends(), appends),
        decoder("message stream", samples::messages(), messages),
        Decoder {
            fixed: MACHINE_BYTES,
            ..decoder("requests", samples::requests(), requests::incoming)
        },
        Decoder {
            fixed: MACHINE_BYTES,
            ..decoder("responses", samples::responses(), requests::outgoing)
        },
        Decoder {
            fixed: MACHINE_BYTES,
            ..decoder("small requests", samples::calls(), requests::call)
        },
        decoder("answers of members", samples::answers(), answers),
        decoder("addresses", samples::urls(), urls),
        Decoder {
            fixed: MACHINE_BYTES,
            every: 4,
            ..decoder("entries", samples::entries(), entry)
        },
        Decoder {
            factor: 20,
            fixed: MACHINE_BYTES,
            every: 32,
            ..decoder("snapshot file", samples::files(), file)
        },
    ]
}

/// The stream of appends, at once and in two pieces.
fn appends(bytes: &[u8]) {
    for cut in [0, bytes.len() / 2] {
        let mut decoder = AppendDecoder::new(MemberId(2), MemberId(1));
        for piece in [&bytes[..cut], &bytes[cut..]] {
            decoder.push(Bytes::copy_from_slice(piece));
            while let Ok(Some(message)) = decoder.next_message() {
                assert!(message.entries.len() <= bytes.len(), "an entry has a length");
            }
        }
        // The machine bounds what all decoders hold by this figure.
        assert!(decoder.held() <= bytes.len() * (1 + size_of::<Entry>()));
    }
}

/// The stream of other messages, and the message before the file of a snapshot.
fn messages(bytes: &[u8]) {
    let mut decoder = MessageDecoder::default();
    decoder.push(Bytes::copy_from_slice(bytes));
    while let Ok(Some(_)) = decoder.next_message() {}
    assert!(decoder.held() <= bytes.len());
    assert!(decoder.rest().len() <= bytes.len());
}

/// The bodies of a member's answers, to a start, to the corruption check, and to a forwarded request.
fn answers(bytes: &[u8]) {
    let mut answer = RemoteAnswer::default();
    for question in Question::ALL {
        answer.hear(question, Some("c1"), bytes);
    }
    let _member = Member::from_json(bytes);
    let (id, keys) = (7, true);
    for status in [200, 400, 404, 412, 503] {
        let _hash = api::hash_answer(status, bytes);
        for request in [
            Request::LeaseRenew { id },
            Request::LeaseTimeToLive { id, keys },
            Request::MemberPromote { id: MemberId(8) },
        ] {
            let _answer = api::forwarded(&request, status, bytes);
        }
    }
}

/// Addresses of members, as tables of members and headers have them.
fn urls(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for url in text.split(',') {
        let Ok(url) = Url::parse(url) else { continue };
        let (_host, _port, _path) = (url.host(), url.port(), url.socket_path());
        let _shown = (url.authority(), url.to_string());
    }
}

/// A committed entry, as a leader sends it. One that cannot be applied is a fault, not a panic.
fn entry(bytes: &[u8]) {
    let (kind, data) = bytes.split_first().unwrap_or((&0, &[]));
    let mut store = Store::new(StoreConfig::default());
    let wanted = |_| true;
    let context = ApplyContext {
        quota_bytes: Some(1 << 20),
        wanted: &wanted,
    };
    for index in 1..=2 {
        let entry = Entry {
            entry_type: i32::from(*kind % 4),
            term: 2,
            index,
            data: Bytes::copy_from_slice(data),
            ..Entry::default()
        };
        if store.apply(&entry, context, &mut Applied::default()).is_err() {
            return;
        }
    }
    drop(snapshot::encode(&store.view()));
}

/// The file of a snapshot. Its checksum is compared and ignored: a file that bbolt wrote has none.
fn file(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let mut sum = FileSum::default();
    sum.feed(&bytes);
    let _sum = sum.finish();
    let part = |part: FilePart| {
        let start = usize::try_from(part.offset).unwrap_or(usize::MAX).min(bytes.len());
        let end = start.saturating_add(part.bytes).min(bytes.len());
        Ok(bytes.slice(start..end))
    };
    let file = SnapshotFile::open("1.snap.db", bytes.len() as u64, part);
    if let Ok(store) = file.and_then(|file| file.restore(StoreConfig::default())) {
        let _view = store.view();
    }
}

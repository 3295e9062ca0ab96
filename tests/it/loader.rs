//! Batches are the same for any number of threads and from any restart point, whatever fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use umbra::data::loader::{
    Loader, LoaderConfig, LoaderError, LoaderState, Order, SampleError, Samples,
};
use umbra::random::Stream;

const LEN: u64 = 997;

/// (index, position, a draw at the position); slow now and then, so that threads overtake each other.
struct Jittery {
    is_bad: fn(u64) -> bool,
}

impl Samples for Jittery {
    type Item = (u64, u64, f64);

    fn len(&self) -> u64 {
        LEN
    }

    fn get(&self, index: u64, position: u64) -> Result<Self::Item, SampleError> {
        if position.is_multiple_of(13) {
            std::thread::sleep(Duration::from_micros(position % 7 * 20));
        }
        if (self.is_bad)(index) {
            return Err(SampleError::new("cannot decode"));
        }
        Ok((index, position, Stream::new(1, "noise").at(position).normal()))
    }
}

fn config(threads: usize) -> LoaderConfig {
    let fingerprint = blake3::hash(b"catalog").to_hex().to_string();
    LoaderConfig { threads, fingerprint, ..LoaderConfig::new(5, "order", 16) }
}

fn start(is_bad: fn(u64) -> bool, config: LoaderConfig) -> Loader<Vec<(u64, u64, f64)>> {
    Loader::start(Arc::new(Jittery { is_bad }), config).unwrap()
}

fn take(loader: &mut Loader<Vec<(u64, u64, f64)>>, hasher: &mut blake3::Hasher) -> u64 {
    let batch = loader.next().unwrap().unwrap();
    hasher.update(&batch.first_position.to_le_bytes());
    for (index, position, draw) in &batch.items {
        hasher.update(&index.to_le_bytes());
        hasher.update(&position.to_le_bytes());
        hasher.update(&draw.to_le_bytes());
    }
    batch.replaced
}

/// 500 batches in one go on one thread, against a loader per batch on 1, 2 and 7 threads; with and without
/// damage. The runs pass eight epoch borders.
#[test]
fn threads_and_restarts_leave_the_stream_as_it_is() {
    for is_bad in [|_| false, |index| index % 50 == 7] as [fn(u64) -> bool; 2] {
        let bear_all = |threads| LoaderConfig { max_bad_fraction: 1.0, ..config(threads) };
        let mut whole = blake3::Hasher::new();
        let mut loader = start(is_bad, bear_all(1));
        let replaced: u64 = (0..500).map(|_| take(&mut loader, &mut whole)).sum();
        assert_eq!(loader.state().skipped, replaced);
        for threads in [1, 2, 7] {
            let mut pieces = blake3::Hasher::new();
            let mut state = start(is_bad, bear_all(threads)).state();
            for _ in 0..500 {
                let mut loader = start(is_bad, bear_all(threads).resume(&state).unwrap());
                take(&mut loader, &mut pieces);
                state = loader.state();
            }
            assert_eq!(pieces.finalize(), whole.finalize(), "{threads} threads");
            assert_eq!(state, loader.state());
        }
    }
}

#[test]
fn items_stand_in_the_order_of_their_positions() {
    let order = Order::new(5, "order", LEN);
    let mut position = 0;
    for batch in start(|_| false, config(7)).take(200) {
        let batch = batch.unwrap();
        assert_eq!(batch.first_position, position);
        assert_eq!(batch.items.len(), 16);
        for item in &batch.items {
            assert_eq!((item.0, item.1), (order.index(position), position));
            position += 1;
        }
    }
    assert_eq!(order.epoch(position), 3);
}

#[test]
fn a_failing_sample_is_replaced_by_a_keyed_redraw_and_counted() {
    let order = Order::new(5, "order", LEN);
    let bad = |index| index < 5;
    let mut loader = start(bad, LoaderConfig { max_bad_fraction: 1.0, ..config(2) });
    let mut replaced = 0;
    for _ in 0..LEN.div_ceil(16) {
        let batch = loader.next().unwrap().unwrap();
        replaced += batch.replaced;
        for (index, position, _) in batch.items {
            assert_eq!(Some(index), order.candidates(position).find(|&index| !bad(index)));
        }
    }
    // Five in the first epoch, and the beginning of the second may have met one again.
    assert!((5..7).contains(&replaced), "{replaced}");
    assert_eq!(loader.state().skipped, replaced);
}

#[test]
fn too_much_damage_ends_the_run_at_the_same_sample_on_any_number_of_threads() {
    let end = |threads| {
        let mut loader = start(|index| index % 10 == 0, config(threads));
        let error = loader.find_map(Result::err).unwrap();
        assert!(loader.next().is_none());
        error.to_string()
    };
    let said = end(1);
    assert!(
        said.contains(" of 200 samples could not be read, more than the limit of 1%"),
        "{said}"
    );
    assert_eq!(said, end(7));

    let all_bad = LoaderConfig { max_bad_fraction: 1.0, ..config(2) };
    let said = start(|_| true, all_bad).next().unwrap().unwrap_err().to_string();
    assert_eq!(said, "64 samples tried for position 0, and none could be read");
}

#[test]
fn a_panic_in_a_thread_is_an_error_not_a_hang() {
    let fragile = |index| {
        assert_ne!(index, 3, "sample three is cursed");
        false
    };
    for threads in [1, 4] {
        let error = start(fragile, config(threads)).find_map(Result::err).unwrap();
        let LoaderError::Panicked { index: 3, message, .. } = error else { panic!("{error}") };
        assert!(message.contains("sample three is cursed"), "{message}");
    }
}

/// A batch is collated once, away from whoever takes it, and has its items in order for any number of threads.
#[test]
fn batches_are_collated_in_the_threads_of_the_loader() {
    let items: Vec<_> = start(|_| false, config(1)).take(60).map(|it| it.unwrap().items).collect();
    for threads in [1, 3, 7] {
        let samples = Arc::new(Jittery { is_bad: |_| false });
        let collate = |items: Vec<(u64, u64, f64)>| {
            let thread = std::thread::current();
            (items, thread.name().unwrap_or_default().to_owned())
        };
        let loader = Loader::collated(samples, Arc::new(collate), config(threads)).unwrap();
        for (batch, items) in loader.zip(&items) {
            let (collated, thread) = batch.unwrap().items;
            assert_eq!(&collated, items, "{threads} threads");
            assert!(thread.starts_with("loader-"), "{thread}");
        }
    }
}

#[test]
fn a_mistake_in_collating_ends_the_run_with_its_position() {
    let collate = |items: Vec<(u64, u64, f64)>| {
        assert!(items[0].1 != 32, "batch two is cursed");
        items.len()
    };
    let samples = Arc::new(Jittery { is_bad: |_| false });
    let mut loader = Loader::collated(samples, Arc::new(collate), config(3)).unwrap();
    let error = loader.find_map(Result::err).unwrap();
    let LoaderError::Collating { position: 32, message } = error else { panic!("{error}") };
    assert!(message.contains("batch two is cursed"), "{message}");
    assert!(loader.next().is_none());
    assert_eq!(loader.state().next_position, 32);
}

/// Counts the threads that are inside `get`.
struct Slow {
    calls: AtomicU64,
}

impl Samples for Slow {
    type Item = u64;

    fn len(&self) -> u64 {
        1_000_000
    }

    fn get(&self, _index: u64, position: u64) -> Result<u64, SampleError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20));
        Ok(position)
    }
}

#[test]
fn dropping_the_loader_joins_its_threads_at_once() {
    let samples = Arc::new(Slow { calls: AtomicU64::new(0) });
    let config = LoaderConfig { threads: 7, ..LoaderConfig::new(1, "order", 64) };
    let mut loader = Loader::start(Arc::clone(&samples), config).unwrap();
    loader.next().unwrap().unwrap();
    let before = Instant::now();
    drop(loader);
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
    // No thread holds the samples any more, so none is left.
    assert_eq!(Arc::strong_count(&samples), 1);
}

#[test]
fn threads_do_not_run_further_ahead_than_the_window() {
    let samples = Arc::new(Slow { calls: AtomicU64::new(0) });
    let config = LoaderConfig { threads: 2, prefetch: 1, ..LoaderConfig::new(1, "order", 4) };
    let mut loader = Loader::start(Arc::clone(&samples), config).unwrap();
    loader.next().unwrap().unwrap();
    std::thread::sleep(Duration::from_millis(400));
    // The batch taken, the one being waited for, one ahead, and one per thread.
    assert_eq!(samples.calls.load(Ordering::SeqCst), 4 + 4 + 4 + 2);
}

#[test]
fn the_state_is_small_and_refuses_other_data() {
    let mut loader = start(|_| false, config(1));
    loader.next().unwrap().unwrap();
    let state = LoaderState { next_position: u64::MAX, skipped: u64::MAX, ..loader.state() };
    let text = serde_json::to_string(&state).unwrap();
    assert!(text.len() < 1024, "{} bytes", text.len());
    assert_eq!(serde_json::from_str::<LoaderState>(&text).unwrap(), state);

    let other = LoaderState { fingerprint: "abc".into(), ..loader.state() };
    assert!(matches!(config(1).resume(&other), Err(LoaderError::OtherData { .. })));
    let other = LoaderState { seed: 6, ..loader.state() };
    let said = config(1).resume(&other).unwrap_err().to_string();
    assert_eq!(
        said,
        "cannot resume: saved in the order order under seed 6, but here it is order under seed 5"
    );
}

#[test]
fn an_empty_set_is_an_error() {
    struct Empty;
    impl Samples for Empty {
        type Item = ();
        fn len(&self) -> u64 {
            0
        }
        fn get(&self, _: u64, _: u64) -> Result<(), SampleError> {
            Ok(())
        }
    }
    let error = Loader::start(Arc::new(Empty), LoaderConfig::new(1, "order", 4)).unwrap_err();
    assert!(matches!(error, LoaderError::Nothing { samples: 0, .. }));
}

/// A million samples cost no more to enter than ten: no table is built.
#[test]
fn the_first_batch_of_a_resumed_run_comes_at_once() {
    let far = LoaderConfig { start_position: 123_456_789, ..LoaderConfig::new(1, "order", 4) };
    let before = Instant::now();
    let samples = Arc::new(Slow { calls: AtomicU64::new(0) });
    let batch = Loader::start(samples, far).unwrap().next().unwrap().unwrap();
    assert_eq!(batch.items, [123_456_789, 123_456_790, 123_456_791, 123_456_792]);
    assert!(before.elapsed() < Duration::from_secs(1));
}

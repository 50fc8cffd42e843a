//! The tests: so many crash points, and each that fails tells how to see it again.
//!
//! `POSTHORN_CRASH_POINTS=10000`: as many. `POSTHORN_CRASH_SEED=7`: begin with this history.
//! `POSTHORN_CRASH_ONE=7/31/2`: only this one: history, image, variant.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::act::{IMAGES, MOVED, SEGMENTS};
use super::indexes::Harm;
use super::look::{look, no_spare_files};
use super::plan::{Kind, Planner};
use super::rng::Rng;
use super::run::{Run, one_of, open, planner, runtime};
use super::world::{Image, Machine, World};

/// Of one history.
const PER_HISTORY: usize = 100;
/// Crashes one after the other in what one image becomes.
const DEPTH: usize = 3;

struct Failure {
    what: String,
    past: Vec<String>,
    trace: Vec<String>,
}

fn history(kind: Kind, seed: u64) -> Result<Vec<Image>, Failure> {
    let machine = Machine::default();
    machine.record_images();
    let rng = Rng(seed);
    let count = match kind {
        Kind::Crowd | Kind::Large => 24,
        Kind::Bulk => 12,
        Kind::Plain | Kind::Faults => 40,
    };
    let mut past = Vec::new();
    let done = guarded(|| {
        runtime().block_on(async {
            let store = open(&machine, kind)?;
            let mut run = Run {
                machine: machine.clone(),
                store,
                state: super::model::Told::default().states[0].clone(),
                planner: planner(&rng, kind, 1),
                past: Vec::new(),
            };
            let done = run.go_on(Planner::first(), count).await;
            run.store.close().await;
            past = run.past;
            done
        })
    });
    match done {
        Ok(()) => Ok(machine.take_images()),
        Err(what) => Err(Failure {
            what,
            past,
            trace: machine.trace(),
        }),
    }
}

fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

fn harm(kind: Kind, rng: &mut Rng) -> Harm {
    match rng.below(12) {
        // Within a store that fails already, one thing at a time.
        _ if kind == Kind::Faults => Harm::None,
        0 | 1 => Harm::Records,
        2 => Harm::Broken,
        3 => Harm::Stale,
        4 => Harm::Gone,
        _ => Harm::None,
    }
}

/// Opens the store after a crash in `image`, looks at everything, and goes on.
fn crash(kind: Kind, image: &Image, rng: &mut Rng) -> Result<usize, Failure> {
    let mut image = image.clone();
    let mut past = Vec::new();
    // A damaged index may come back after it was replaced.
    let mut hurt = false;
    for depth in 0..DEPTH {
        let harm = harm(kind, rng);
        hurt |= harm != Harm::None;
        past.push(format!(
            "--- a crash at step {} ({}), {harm:?}",
            image.step, image.what
        ));
        let machine = World::after(&image, harm, rng);
        machine.record_images();
        let mut all = Vec::new();
        let done = guarded(|| {
            runtime().block_on(async {
                let store = open(&machine, kind)?;
                let state = settled(&store, &image, hurt).await?;
                let lone = state.accounts.is_empty() || state.domains.is_empty();
                machine.tell(super::model::Told::one(state.clone()));
                let mut run = Run {
                    machine: machine.clone(),
                    store,
                    state,
                    planner: planner(rng, kind, 2 + depth as u64),
                    past: Vec::new(),
                };
                let count = if lone { 0 } else { 1 + rng.below(4) };
                let done = run.go_on(Vec::new(), count).await;
                run.store.close().await;
                past.append(&mut run.past);
                all = machine.take_images();
                done
            })
        });
        if let Err(what) = done {
            let trace = machine.trace();
            return Err(Failure { what, past, trace });
        }
        match rng.pick(&all) {
            Some(next) => image = next.clone(),
            None => return Ok(depth + 1),
        }
    }
    Ok(DEPTH)
}

/// What is seen once everything that was lost of the index is noticed and mended.
async fn settled(
    store: &super::super::Store,
    image: &Image,
    hurt: bool,
) -> Result<super::model::State, String> {
    let told = &image.told;
    let among = &told.states[told.from..];
    for _ in 0..1000 {
        let seen = look(store, true);
        let mending = store.shared().rebuild_is_wanted();
        match seen {
            Ok(seen) => {
                let state = one_of(among, &seen)?;
                if !mending {
                    if !hurt {
                        no_spare_files(store);
                    }
                    return Ok(state);
                }
            }
            Err(error) if mending && hurt => drop(error),
            Err(error) => return Err(format!("reading: {error}")),
        }
        let tend = super::super::queue::Message::Tend;
        let _ = store.inner_queue().send(tend).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Err("the index is not mended".into())
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// As many crash points as are asked for, or `few`.
fn crash_points(kind: Kind, few: usize, share: usize) {
    let one = std::env::var("POSTHORN_CRASH_ONE").ok();
    let one: Option<Vec<u64>> = one.map(|text| {
        let parts = text.split('/').filter_map(|part| part.parse().ok());
        parts.collect()
    });
    let wanted = match number("POSTHORN_CRASH_POINTS") {
        Some(all) => (all as usize * share).div_ceil(100),
        None => few,
    };
    let first = number("POSTHORN_CRASH_SEED").unwrap_or(1);
    let mut seed = one
        .as_ref()
        .and_then(|one| one.first().copied())
        .unwrap_or(first);
    let (mut points, started) = (0, Instant::now());
    let report = |failure: Failure, name: String| {
        let (past, trace) = (failure.past.join("\n"), failure.trace.join("\n"));
        panic!(
            "{}\nhistory:\n{past}\nfaults:\n{trace}\nagain: POSTHORN_CRASH_ONE={name} cargo test \
             --lib crash_points_{} -- --nocapture",
            failure.what,
            format!("{kind:?}").to_lowercase(),
        )
    };
    while points < wanted {
        let images = match history(kind, seed) {
            Ok(images) => images,
            Err(failure) => return report(failure, format!("{seed}")),
        };
        let most = PER_HISTORY.min(wanted - points);
        let mut rng = Rng(seed).branch(3);
        let mut done = 0;
        let mut round = 0;
        while done < most {
            let at = match &one {
                Some(one) if one.len() > 1 => one[1] as usize % images.len(),
                _ => rng.below(images.len()),
            };
            let variant = match &one {
                Some(one) if one.len() > 2 => one[2],
                _ => round,
            };
            let mut own = Rng(seed).branch(at as u64).branch(variant);
            match crash(kind, &images[at], &mut own) {
                Ok(more) => done += more,
                Err(failure) => return report(failure, format!("{seed}/{at}/{variant}")),
            }
            round += 1;
            if one.as_ref().is_some_and(|one| one.len() > 1) {
                return;
            }
        }
        points += done;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        eprintln!(
            "{kind:?}: history {seed}, {} steps, {points} of {wanted} crash points, {:.1} s; of \
             all kinds so far {} state images, {} segments compacted, {} bodies moved",
            images.len(),
            started.elapsed().as_secs_f32(),
            count(&IMAGES),
            count(&SEGMENTS),
            count(&MOVED),
        );
        seed += 1;
        if one.is_some() {
            return;
        }
    }
}

#[test]
fn crash_points_plain() {
    crash_points(Kind::Plain, 300, 55);
}

#[test]
fn crash_points_crowd() {
    crash_points(Kind::Crowd, 120, 25);
}

#[test]
fn crash_points_large() {
    crash_points(Kind::Large, 20, 4);
}

#[test]
fn crash_points_bulk() {
    crash_points(Kind::Bulk, 20, 4);
}

#[test]
fn crash_points_faults() {
    crash_points(Kind::Faults, 60, 12);
}

//! Answers to commits that are lost on their way, and commits that never arrive.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use scenarios::house::Plan;
use scenarios::load::{Load, count_kinds};
use scenarios::{Chance, Mode, tell};
use servers::Proxy;
use servers::proxy::{Fate, Request};

/// Runs that are on their way at any moment.
const LANES: u64 = 12;
/// So many cuts after a commit, and so many before one, are made at least.
const CUTS_AFTER: usize = 100;
const CUTS_BEFORE: usize = 50;
/// Of three cuts two come after the commit: that is what nobody can know.
const CUTS_PER_CUT_BEFORE: u64 = 3;
/// Of every kind of commit, so many answers are lost at least.
const CUTS_OF_EACH_KIND: usize = 5;
/// Two busy cores take a tenth of it.
const STORM_MAX: Duration = Duration::from_secs(180);

/// Nobody dies here. Time must not heal what was forgotten: a run that is held and not known of stays where it is.
const PATIENT: [(&str, &str); 2] = [("WINDLASS_SESSION_TTL", "10s"), ("WINDLASS_STALE_AFTER", "600s")];

/// What is cut, and one of how many, so that the rare ones have their share.
const KINDS: [(&str, u64); 5] = [("create", 8), ("command", 8), ("claim", 12), ("tick", 24), ("renewal", 6)];

fn kind_of(request: &Request, by_api: bool) -> Option<&'static str> {
    let runs = |sql| request.runs(sql);
    match () {
        () if !request.commits() => None,
        () if runs("insert into worker_sessions") => Some("renewal"),
        () if runs("insert into workflow_runs") => Some("create"),
        () if request.application() == "windlass claims" => Some("claim"),
        () if request.application() == "windlass ticks" => Some(if by_api { "command" } else { "tick" }),
        () => None,
    }
}

/// How many of each kind were cut, before and after.
type Cut = Arc<Mutex<BTreeMap<&'static str, [usize; 2]>>>;

fn cuts_by_chance(mut chance: Chance, by_api: bool, cut: Cut) -> impl FnMut(&Request) -> Fate + Send {
    move |request| {
        let Some(kind) = kind_of(request, by_api) else { return Fate::Pass };
        let (_, one_in) = KINDS.iter().find(|(name, _)| *name == kind).expect("every kind is listed");
        if !chance.one_in(*one_in) {
            return Fate::Pass;
        }
        let after = !chance.one_in(CUTS_PER_CUT_BEFORE);
        cut.lock().expect("no panic while holding it").entry(kind).or_default()[usize::from(after)] += 1;
        if after { Fate::CutAfter } else { Fate::CutBefore }
    }
}

async fn whatever_commit_is_left_in_doubt_has_happened_once_or_not_at_all() {
    let mut chance = Chance::from_environment();
    let mut house = Plan::of(Mode::Fleet).with(&PATIENT).apis(0).workers(0).open().await;
    let (to_apis, to_workers) = (Proxy::to(house.database_url()), Proxy::to(house.database_url()));
    for _ in 0..2 {
        house.add_api(&[("WINDLASS_DATABASE_URL", to_apis.url())]).await;
        house.add_worker(&[("WINDLASS_DATABASE_URL", to_workers.url())]).await;
    }
    let load = Load::begin(&house, LANES, &mut chance).await;
    let cut = Cut::default();
    to_apis.judges(cuts_by_chance(chance.branch(), true, cut.clone()));
    to_workers.judges(cuts_by_chance(chance.branch(), false, cut.clone()));

    let began = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let (apis, workers) = (to_apis.cuts(), to_workers.cuts());
        let each = cut.lock().expect("no panic while holding it").clone();
        let of_each =
            KINDS.iter().all(|(kind, _)| each.get(kind).is_some_and(|cuts| cuts[1] >= CUTS_OF_EACH_KIND));
        if of_each && apis.after + workers.after >= CUTS_AFTER && apis.before + workers.before >= CUTS_BEFORE
        {
            eprintln!("cut [before, after]: {each:?} in {:?}", began.elapsed());
            break;
        }
        assert!(began.elapsed() < STORM_MAX, "only {each:?}");
    }
    to_apis.judges_no_more();
    to_workers.judges_no_more();

    let kinds = count_kinds(&load.end(house).await);
    eprintln!("{kinds:?}");
    assert!(kinds["run.completed"] > 20, "{kinds:#?}");
    for unheard_of in ["step.lost", "run.paused engine_interrupted"] {
        assert!(!kinds.contains_key(unheard_of), "{kinds:#?}");
    }
}

#[test]
fn every_commit_in_doubt_has_happened_once_or_not_at_all() {
    tell(whatever_commit_is_left_in_doubt_has_happened_once_or_not_at_all());
}

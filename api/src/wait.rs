//! Waits, within bounds, for a run to get somewhere.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use windlass_bus::{News, Subscription};
use windlass_model::{EventBody, RunId, TenantId};

use crate::app::App;
use crate::query::number_within;

pub(crate) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// The longest wait that a client may ask for.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);
/// News may be lost; the row tells the truth.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Reads `?wait=30s`.
pub(crate) fn read_wait(text: &str) -> Result<Duration, String> {
    let seconds =
        text.strip_suffix('s').ok_or(()).and_then(|number| number_within(number, 0, 60).map_err(|_| ()));
    match seconds {
        Ok(seconds) => Ok(Duration::from_secs(seconds.into())),
        Err(()) => Err("must be between `0s` and `60s`, in whole seconds".to_owned()),
    }
}

/// Reads `Prefer: wait=30`. What cannot be understood or honored is ignored, as RFC 7240 asks.
pub(crate) fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
    let preferences = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let seconds = preferences.flat_map(|text| text.split(',')).find_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        let is_wait = name.trim().eq_ignore_ascii_case("wait");
        if is_wait { value.trim().trim_matches('"').parse::<u32>().ok() } else { None }
    })?;
    Some(Duration::from_secs(seconds.into()).min(WAIT_MAX))
}

/// Returns when the run has ended, when it begins to need a person, or when the time is over.
///
/// A run that is paused or at a gate already is waited for: else a client that waits in a loop would spin.
pub(crate) async fn wait_for_rest(
    app: &App,
    tenant: TenantId,
    run_id: RunId,
    mut news: Subscription,
    wait: Duration,
) {
    let until = Instant::now() + wait;
    let has_ended = async || {
        let row = app.store.get_run(tenant, run_id).await;
        row.is_ok_and(|row| row.is_none_or(|row| row.status.is_terminal()))
    };
    while Instant::now() < until && !has_ended().await {
        let look_at = until.min(Instant::now() + LOOK_EVERY);
        tokio::select! {
            biased;
            () = app.closing.cancelled() => return,
            rested = rests_before(&mut news, look_at) => if rested { return },
        }
    }
}

/// Whether news of a rest comes before `look_at`.
async fn rests_before(news: &mut Subscription, look_at: Instant) -> bool {
    loop {
        match tokio::time::timeout_at(look_at, news.recv()).await {
            Ok(Ok(News::Event(event))) if is_rest(&event.body) => return true,
            Ok(Ok(News::Missed) | Err(RecvError::Lagged(_))) | Err(_) => return false,
            Ok(Ok(News::Event(_) | News::Progress(_))) => {}
            Ok(Err(RecvError::Closed)) => {
                tokio::time::sleep_until(look_at).await;
                return false;
            }
        }
    }
}

fn is_rest(body: &EventBody) -> bool {
    use EventBody::{ApprovalRequested, RunPaused, RunQuarantined};
    body.is_terminal() || matches!(body, RunPaused(_) | RunQuarantined(_) | ApprovalRequested(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preference_is_read_and_bounded_and_nonsense_is_ignored() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("prefer", text.parse().unwrap());
            preferred_wait(&headers).map(|wait| wait.as_secs())
        };
        assert_eq!(of("respond-async, wait=5"), Some(5));
        assert_eq!(of("Wait=\"7\"; foo"), Some(7));
        assert_eq!(of("wait=9999"), Some(60));
        for text in ["wait=-1", "wait=soon", "wait", "handling=lenient", ""] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn a_wait_is_a_number_of_seconds_up_to_a_minute() {
        assert_eq!(read_wait("30s"), Ok(Duration::from_secs(30)));
        for text in ["61s", "30", "-1s", "s", "1m", "1.5s"] {
            assert!(read_wait(text).is_err(), "{text}");
        }
    }
}

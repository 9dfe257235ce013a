//! The relay: brings what `emit` wrote out of the database, at least once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tokio::time::{Instant, Interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use windlass_boot::Beat;
use windlass_model::planted;
use windlass_store::{OutboxRow, OutboxSettlement, Store, StoreError, point};

/// Messages that one turn carries.
const RELAY_PAGE: u32 = 100;
/// A message that failed this often is set aside, visibly.
const ATTEMPTS_MAX: u32 = 12;
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(600);
/// How long one delivery may take; the relay promises a sign of life as often.
pub(crate) const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);
/// For so long no other worker delivers what this one has taken. What it could not deliver in that time, because it
/// died or the receiver is slow, comes back by itself.
const LEASE: Duration = DELIVERY_TIMEOUT.saturating_mul(2);

/// Where emitted events go.
#[async_trait]
pub trait Sink: Send + Sync {
    /// # Errors
    /// A sentence; the message is tried again later.
    async fn deliver(&self, message: &OutboxRow) -> Result<(), String>;
}

/// Posts each event as JSON to one address that the operator chose.
pub struct HttpSink {
    client: reqwest::Client,
    url: String,
}

impl HttpSink {
    /// # Errors
    /// When there is no TLS to be had.
    pub fn new(url: String) -> reqwest::Result<Self> {
        let client = reqwest::Client::builder().timeout(DELIVERY_TIMEOUT).no_proxy().build()?;
        Ok(Self { client, url })
    }
}

#[async_trait]
impl Sink for HttpSink {
    async fn deliver(&self, row: &OutboxRow) -> Result<(), String> {
        // Receivers drop repeats by this id.
        let id = format!("{}/{}", row.run_id, row.message.seq);
        let body = json!({
            "id": id,
            "type": row.message.topic,
            "run_id": row.run_id,
            "at": row.created_at,
            "data": row.message.body,
        });
        let sent = self.client.post(&self.url).header("Idempotency-Key", &id).json(&body).send().await;
        match sent {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("the receiver answered {}", answer.status())),
            Err(error) => Err(error.without_url().to_string()),
        }
    }
}

pub(crate) struct Relay {
    pub(crate) store: Arc<dyn Store>,
    /// None: nobody outside is told.
    pub(crate) sink: Option<Arc<dyn Sink>>,
    /// Whether the last delivery failed.
    pub(crate) is_refused: AtomicBool,
}

impl Relay {
    pub(crate) async fn run(self, mut turns: Interval, beat: Beat, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = turns.tick() => {}
            }
            match self.carry(&beat).await {
                Ok(()) => beat.beat(),
                Err(error) => {
                    warn!(error = %error, "The outbox could not be read; the next turn will try again")
                }
            }
        }
    }

    /// Empties the outbox, page by page.
    async fn carry(&self, beat: &Beat) -> Result<(), StoreError> {
        loop {
            let deliver_until = Instant::now() + LEASE - DELIVERY_TIMEOUT;
            let page = self.store.take_outbox(RELAY_PAGE, LEASE).await?;
            let is_last = page.len() < RELAY_PAGE as usize;
            if page.is_empty() {
                return Ok(());
            }
            point("relay.taken");
            let mut settlements = Vec::with_capacity(page.len());
            for row in page {
                if Instant::now() > deliver_until {
                    break;
                }
                settlements.push(self.settle(row).await);
                beat.beat();
            }
            point("relay.sent");
            self.store.settle_outbox(settlements).await?;
            point("relay.settled");
            if is_last {
                return Ok(());
            }
        }
    }

    async fn settle(&self, row: OutboxRow) -> OutboxSettlement {
        let Some(sink) = &self.sink else { return OutboxSettlement::Delivered { id: row.id } };
        let delivered = sink.deliver(&row).await;
        let was_refused = self.is_refused.swap(delivered.is_err(), Ordering::Relaxed);
        match &delivered {
            // Once for all that it refuses in a row.
            Err(error) if !was_refused => {
                warn!(run.id = %row.run_id, error, "The receiver of emitted events does not take them; trying again");
            }
            Ok(()) if was_refused => info!("The receiver of emitted events takes them again"),
            _ => {}
        }
        match delivered {
            Ok(()) => OutboxSettlement::Delivered { id: row.id },
            Err(_) if planted("failed_delivery_forgotten") => OutboxSettlement::Delivered { id: row.id },
            Err(error) if row.attempts + 1 >= ATTEMPTS_MAX => {
                error!(run.id = %row.run_id, error, "Giving up an emitted event; it stays in the outbox as dead");
                OutboxSettlement::Dead { id: row.id, error }
            }
            Err(error) => {
                let pause = Duration::from_secs(1 << row.attempts.min(16)).min(RETRY_PAUSE_MAX);
                OutboxSettlement::Failed { id: row.id, error, retry_after: pause }
            }
        }
    }
}

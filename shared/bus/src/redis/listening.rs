//! What others say, on one connection of the whole process: news of watched runs, and pokes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::StreamExt;
use redis::aio::{PubSubSink, PubSubStream};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::{Interval, MissedTickBehavior, interval};
use windlass_model::{Ring, RunId, SessionId};

use super::message::{self, Channel};
use super::outgoing::Post;
use super::patience::Patience;
use crate::{NEWS_BUFFERED_MAX, News, POKES_WAITING_MAX, Pokes, Subscription};

/// A Redis that takes longer to answer is as good as away.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Who subscribes waits no longer than this: then the log has to do until Redis answers.
const SUBSCRIBE_MAX: Duration = Duration::from_secs(1);
/// A connection that was cut without a word is found out within this.
const PING_EVERY: Duration = Duration::from_secs(5);
/// How often channels are left that nobody listens to any more, while there are any to leave.
const TIDY_EVERY: Duration = Duration::from_secs(1);
/// While Redis is away, watchers read the log this often.
const AWAY_LOOK_EVERY: Duration = Duration::from_secs(2);
/// Wishes of those who waited at the same time go out together.
const WISHES_MAX: usize = 256;
/// Channels named in one command.
const CHANNELS_MAX: usize = 1_000;

/// The way in.
pub(super) struct Listening {
    audience: Arc<Audience>,
    wishes: mpsc::Sender<Wish>,
}

/// Somebody wants to hear a channel. The answer comes, or its sender is dropped.
struct Wish {
    channel: Channel,
    done: oneshot::Sender<()>,
}

/// Who listens to what.
#[derive(Default)]
struct Audience(Mutex<Seats>);

#[derive(Default)]
struct Seats {
    watchers: HashMap<RunId, Topic>,
    engines: HashMap<SessionId, mpsc::Sender<Ring>>,
}

struct Topic {
    sender: broadcast::Sender<News>,
    /// Redis has said that we hear this channel.
    heard: bool,
}

impl Listening {
    pub(super) fn start(client: redis::Client, posts: mpsc::Sender<Post>) -> Self {
        let audience = Arc::new(Audience::default());
        let (wishes, wished) = mpsc::channel(WISHES_MAX);
        tokio::spawn(Ear { client, posts, audience: audience.clone(), wishes: wished }.listen_for_ever());
        Self { audience, wishes }
    }

    pub(super) async fn subscribe(&self, run_id: RunId) -> Subscription {
        let (subscription, is_heard) = self.audience.seat(run_id);
        if !is_heard {
            let (done, answer) = oneshot::channel();
            let wish = Wish { channel: Channel::Run(run_id), done };
            let asked = async {
                // Whatever comes of it: without an answer, watchers are told to read the log.
                if self.wishes.send(wish).await.is_ok() {
                    let _ = answer.await;
                }
            };
            let _ = tokio::time::timeout(SUBSCRIBE_MAX, asked).await;
        }
        subscription
    }

    pub(super) fn pokes(&self, session: SessionId) -> Pokes {
        let (sender, pokes) = mpsc::channel(POKES_WAITING_MAX);
        self.audience.seats().engines.insert(session, sender);
        let (done, _) = oneshot::channel();
        // If the wish finds no room, the next connection hears the channel, and the heartbeat does until then.
        let _ = self.wishes.try_send(Wish { channel: Channel::Session(session), done });
        pokes
    }
}

impl Audience {
    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.0.lock().expect("no panic while holding it")
    }

    /// A place among those who watch this run, and whether news arrive already.
    fn seat(&self, run_id: RunId) -> (Subscription, bool) {
        let mut seats = self.seats();
        let topic = seats
            .watchers
            .entry(run_id)
            .or_insert_with(|| Topic { sender: broadcast::channel(NEWS_BUFFERED_MAX).0, heard: false });
        (topic.sender.subscribe(), topic.heard)
    }

    fn pass_on(&self, channel: Channel, payload: &[u8]) {
        match channel {
            Channel::Run(run_id) => {
                let Some(watchers) = self.seats().watchers.get(&run_id).map(|topic| topic.sender.clone())
                else {
                    return;
                };
                for news in message::read_news(payload) {
                    // Nobody listening any more is no error.
                    let _ = watchers.send(news);
                }
            }
            Channel::Session(session) => {
                let seats = self.seats();
                if let (Some(pokes), Some(ring)) = (seats.engines.get(&session), message::read_ring(payload))
                {
                    let _ = pokes.try_send(ring);
                }
            }
        }
    }

    fn tell_all_that_they_missed_something(&self) {
        for topic in self.seats().watchers.values() {
            let _ = topic.sender.send(News::Missed);
        }
    }

    /// Whether there are seats that are left some day, or have been. Engines stay as long as their process.
    fn may_leave(&self) -> bool {
        let seats = self.seats();
        !seats.watchers.is_empty() || seats.engines.values().any(mpsc::Sender::is_closed)
    }

    /// Takes away the seats that nobody sits in.
    fn leave(&self) -> Vec<Channel> {
        let mut seats = self.seats();
        let runs: Vec<_> =
            seats.watchers.extract_if(|_, topic| topic.sender.receiver_count() == 0).map(|it| it.0).collect();
        let engines: Vec<_> = seats.engines.extract_if(|_, pokes| pokes.is_closed()).map(|it| it.0).collect();
        runs.into_iter().map(Channel::Run).chain(engines.into_iter().map(Channel::Session)).collect()
    }

    fn set_heard(&self, channels: &[Channel]) {
        let mut seats = self.seats();
        for channel in channels {
            if let Channel::Run(run_id) = channel
                && let Some(topic) = seats.watchers.get_mut(run_id)
            {
                topic.heard = true;
            }
        }
    }

    fn set_nothing_heard(&self) {
        self.seats().watchers.values_mut().for_each(|topic| topic.heard = false);
    }

    fn channels(&self) -> Vec<Channel> {
        let seats = self.seats();
        let runs = seats.watchers.keys().map(|run_id| Channel::Run(*run_id));
        runs.chain(seats.engines.keys().map(|session| Channel::Session(*session))).collect()
    }
}

/// The task that hears.
struct Ear {
    client: redis::Client,
    posts: mpsc::Sender<Post>,
    audience: Arc<Audience>,
    wishes: mpsc::Receiver<Wish>,
}

/// Why a connection is not used any more.
enum End {
    /// Nobody can wish for anything any more.
    BusIsGone,
    ConnectionIsGone,
    NoAnswer,
    Refused(redis::RedisError),
}

impl Ear {
    async fn listen_for_ever(mut self) {
        let mut patience = Patience::default();
        while let Some((sink, stream)) = self.connect(&mut patience).await {
            let end = self.listen(sink, stream, &mut patience).await;
            self.audience.set_nothing_heard();
            match end {
                End::BusIsGone => return,
                End::ConnectionIsGone => tracing::debug!("The connection that hears news is gone"),
                End::NoAnswer => tracing::debug!("The connection that hears news is silent"),
                End::Refused(error) => tracing::warn!(%error, "Redis lets nobody listen"),
            }
            // If there is no room, there is something to send.
            let _ = self.posts.try_send(Post::Ping);
        }
    }

    /// Connects, however long it takes; watchers read the log meanwhile. None when nobody waits for it any more.
    async fn connect(&mut self, patience: &mut Patience) -> Option<(PubSubSink, PubSubStream)> {
        let client = self.client.clone();
        let connecting = patience.until_connected(|| {
            let client = client.clone();
            async move { client.get_async_pubsub().await }
        });
        tokio::pin!(connecting);
        let mut looks = ticks(AWAY_LOOK_EVERY);
        loop {
            tokio::select! {
                connection = &mut connecting => return Some(connection.split()),
                _ = looks.tick() => {
                    self.audience.leave();
                    self.audience.tell_all_that_they_missed_something();
                }
                // Not granted, and dropped at once: nobody waits for a Redis that is away.
                wish = self.wishes.recv() => drop(wish?),
            }
        }
    }

    async fn listen(&mut self, sink: PubSubSink, stream: PubSubStream, patience: &mut Patience) -> End {
        let (mut sink, mut stream) = (sink, stream);
        if let Err(end) = self.hear(&mut sink, &self.audience.channels()).await {
            return end;
        }
        patience.rewarded();
        // What was said while none of us heard.
        self.audience.tell_all_that_they_missed_something();
        let (mut tidying, mut pings) = (ticks(TIDY_EVERY), ticks(PING_EVERY));
        let mut wishes = Vec::with_capacity(WISHES_MAX);
        loop {
            let done = tokio::select! {
                message = stream.next() => match message {
                    Some(message) => {
                        if let Some(channel) = Channel::parse(message.get_channel_name()) {
                            self.audience.pass_on(channel, message.get_payload_bytes());
                        }
                        Ok(())
                    }
                    None => Err(End::ConnectionIsGone),
                },
                count = self.wishes.recv_many(&mut wishes, WISHES_MAX) => match count {
                    0 => Err(End::BusIsGone),
                    _ => self.grant(&mut sink, &mut wishes).await,
                },
                _ = tidying.tick(), if self.audience.may_leave() => self.leave(&mut sink).await,
                _ = pings.tick() => within(sink.ping::<redis::Value>()).await,
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    async fn grant(&self, sink: &mut PubSubSink, wishes: &mut Vec<Wish>) -> Result<(), End> {
        let channels: Vec<_> = wishes.iter().map(|wish| wish.channel).collect();
        self.hear(sink, &channels).await?;
        for wish in wishes.drain(..) {
            // Who wished may have gone.
            let _ = wish.done.send(());
        }
        Ok(())
    }

    async fn hear(&self, sink: &mut PubSubSink, channels: &[Channel]) -> Result<(), End> {
        for some in channels.chunks(CHANNELS_MAX) {
            let names: Vec<_> = some.iter().map(|channel| channel.name()).collect();
            within(sink.subscribe(names)).await?;
            self.audience.set_heard(some);
        }
        Ok(())
    }

    async fn leave(&self, sink: &mut PubSubSink) -> Result<(), End> {
        // A wish for one of these that comes meanwhile is granted after this: the command is on its way by then.
        for some in self.audience.leave().chunks(CHANNELS_MAX) {
            let names: Vec<_> = some.iter().map(|channel| channel.name()).collect();
            within(sink.unsubscribe(names)).await?;
        }
        Ok(())
    }
}

async fn within<T>(answer: impl Future<Output = redis::RedisResult<T>>) -> Result<(), End> {
    match tokio::time::timeout(ANSWER_MAX, answer).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(End::Refused(error)),
        Err(_) => Err(End::NoAnswer),
    }
}

fn ticks(every: Duration) -> Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

//! Turns of what only a few may do at a time, such as builds and starts of containers, fair by owner.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

/// Who has a turn and who waits for one; cheap to clone. The next turn is that of the owner with the fewest, of these the one
/// whose last turn began the longest ago, and within an owner of the one who has waited the longest.
#[derive(Debug)]
pub struct Turns<K>(Arc<Shared<K>>);

impl<K> Clone for Turns<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Shared<K> {
    max: usize,
    queue: Mutex<Queue<K>>,
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct Queue<K> {
    /// Number of turns of each owner that has some.
    taken: HashMap<K, usize>,
    /// The count of all turns at which the last one of each owner with turns or tickets began.
    last: HashMap<K, u64>,
    begun: u64,
    next_ticket: u64,
    /// In order of arrival.
    waiting: Vec<Waiting<K>>,
}

#[derive(Debug, Clone)]
struct Waiting<K> {
    ticket: u64,
    owner: K,
    /// Number of turns that the owner may have.
    max: usize,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub struct Turn<K: Eq + Hash + Clone> {
    shared: Arc<Shared<K>>,
    owner: K,
}

/// A place in the queue, until it is dropped.
#[derive(Debug)]
pub struct Ticket<K: Eq + Hash + Clone> {
    shared: Arc<Shared<K>>,
    owner: K,
    number: u64,
    /// How many turns must end before, as it was last returned.
    ahead: usize,
    changed: watch::Receiver<()>,
}

impl<K: Eq + Hash + Clone> Turns<K> {
    /// At most `max` turns at a time.
    pub fn new(max: usize) -> Self {
        let queue =
            Queue { taken: HashMap::new(), last: HashMap::new(), begun: 0, next_ticket: 0, waiting: Vec::new() };
        Self(Arc::new(Shared { max, queue: Mutex::new(queue), changed: watch::Sender::new(()) }))
    }

    /// Waits for a turn of this owner, who may have at most `max` at a time.
    pub async fn take(&self, owner: K, max: usize) -> Turn<K> {
        let mut ticket = self.draw(owner, max);
        loop {
            if let Ok(turn) = ticket.turn().await {
                return turn;
            }
        }
    }

    /// Draws a ticket for a turn of this owner, who may have at most `max` at a time.
    pub fn draw(&self, owner: K, max: usize) -> Ticket<K> {
        let mut queue = self.0.lock();
        let number = queue.next_ticket;
        queue.next_ticket += 1;
        queue.waiting.push(Waiting { ticket: number, owner: owner.clone(), max: max.max(1) });
        let (shared, changed) = (Arc::clone(&self.0), self.0.changed.subscribe());
        Ticket { shared, owner, number, ahead: 0, changed }
    }
}

impl<K: Eq + Hash + Clone> Ticket<K> {
    /// Waits for the turn. Whenever it changes how many turns must end before, returns that number: call it again.
    pub async fn turn(&mut self) -> Result<Turn<K>, usize> {
        loop {
            match self.shared.lock().try_begin(self.number, self.shared.max) {
                Ok(()) => break,
                Err(ahead) if ahead != self.ahead => {
                    self.ahead = ahead;
                    return Err(ahead);
                }
                Err(_) => {}
            }
            // The sender lives in `self`.
            let _ = self.changed.changed().await;
        }
        Ok(Turn { shared: Arc::clone(&self.shared), owner: self.owner.clone() })
    }
}

impl<K: Eq + Hash + Clone> Shared<K> {
    fn lock(&self) -> MutexGuard<'_, Queue<K>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash + Clone> Queue<K> {
    /// Begins the turn of a ticket, if it is next; otherwise returns how many turns must end before it.
    fn try_begin(&mut self, ticket: u64, max: usize) -> Result<(), usize> {
        let running: usize = self.taken.values().sum();
        let (mut taken, mut last, mut begun) = (self.taken.clone(), self.last.clone(), self.begun);
        let mut waiting = self.waiting.clone();
        // The order in which all that wait get a turn, as long as no turn ends.
        let mut before = 0;
        while let Some(next) = next(&waiting, &taken, &last) {
            let Waiting { ticket: number, owner, .. } = waiting.remove(next);
            if number == ticket {
                if running + before < max {
                    self.waiting.retain(|waiting| waiting.ticket != ticket);
                    *self.taken.entry(owner.clone()).or_default() += 1;
                    self.begun += 1;
                    self.last.insert(owner, self.begun);
                    return Ok(());
                }
                return Err(running + before + 1 - max);
            }
            *taken.entry(owner.clone()).or_default() += 1;
            begun += 1;
            last.insert(owner, begun);
            before += 1;
        }
        // Its owner has all turns that this owner may have.
        let own = |waiting: &&Waiting<K>| waiting.ticket <= ticket;
        let Some(this) = self.waiting.iter().find(|waiting| waiting.ticket == ticket) else { return Err(1) };
        let earlier = self.waiting.iter().filter(own).filter(|waiting| waiting.owner == this.owner).count();
        let of_owner = self.taken.get(&this.owner).copied().unwrap_or(0);
        Err((of_owner + earlier).saturating_sub(this.max).max(1))
    }

    /// Forgets an owner who has neither a turn nor a ticket.
    fn forget(&mut self, owner: &K) {
        if !self.taken.contains_key(owner) && self.waiting.iter().all(|waiting| waiting.owner != *owner) {
            self.last.remove(owner);
        }
    }
}

/// The place in the list of who is next; `None` if nobody may have a turn.
fn next<K: Eq + Hash>(waiting: &[Waiting<K>], taken: &HashMap<K, usize>, last: &HashMap<K, u64>) -> Option<usize> {
    let of = |owner: &K| taken.get(owner).copied().unwrap_or(0);
    let candidates = waiting.iter().enumerate().filter(|(_, waiting)| of(&waiting.owner) < waiting.max);
    let next = candidates.min_by_key(|(_, waiting)| {
        (of(&waiting.owner), last.get(&waiting.owner).copied().unwrap_or(0), waiting.ticket)
    });
    next.map(|(place, _)| place)
}

impl<K: Eq + Hash + Clone> Drop for Ticket<K> {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        if let Some(place) = queue.waiting.iter().position(|waiting| waiting.ticket == self.number) {
            let owner = queue.waiting.remove(place).owner;
            queue.forget(&owner);
        }
        drop(queue);
        self.shared.changed.send_replace(());
    }
}

impl<K: Eq + Hash + Clone> Drop for Turn<K> {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        match queue.taken.get_mut(&self.owner) {
            Some(taken) if *taken > 1 => *taken -= 1,
            _ => {
                queue.taken.remove(&self.owner);
                queue.forget(&self.owner);
            }
        }
        drop(queue);
        self.shared.changed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::Pin, task::Poll};

    use futures_util::poll;

    use super::*;

    const MANY: usize = 100;

    fn wait<'a>(turns: &'a Turns<char>, owner: char, max: usize) -> Pin<Box<dyn Future<Output = Turn<char>> + 'a>> {
        Box::pin(turns.take(owner, max))
    }

    /// The owners that wait, in the order in which they get the only turn.
    async fn order(waiting: &str) -> String {
        let turns = Turns::new(1);
        let mut held = Some(wait(&turns, '-', MANY).await);
        let mut futures = Vec::new();
        for owner in waiting.chars() {
            let mut future = wait(&turns, owner, MANY);
            assert!(poll!(&mut future).is_pending());
            futures.push((owner, future));
        }
        let mut order = String::new();
        while !futures.is_empty() {
            drop(held.take());
            let mut ready = None;
            for (place, (owner, future)) in futures.iter_mut().enumerate() {
                if let Poll::Ready(turn) = poll!(future) {
                    (held, ready) = (Some(turn), Some(place));
                    order.push(*owner);
                    break;
                }
            }
            drop(futures.remove(ready.expect("somebody is next")));
        }
        order
    }

    #[tokio::test]
    async fn owners_take_turns_and_each_in_order_of_arrival() {
        assert_eq!(order("aaaabbc").await, "abcabaa");
        assert_eq!(order("aaa").await, "aaa");
    }

    #[tokio::test]
    async fn an_owner_with_fewer_turns_is_first() {
        let turns = Turns::new(2);
        let (a, b) = (wait(&turns, 'a', MANY).await, wait(&turns, 'b', MANY).await);
        let (mut more, mut other) = (wait(&turns, 'a', MANY), wait(&turns, 'c', MANY));
        assert!(poll!(&mut more).is_pending() && poll!(&mut other).is_pending());
        drop(b);
        assert!(poll!(&mut more).is_pending(), "a has one already");
        let c = other.await;
        drop(a);
        drop(more.await);
        drop(c);
    }

    #[tokio::test]
    async fn an_owner_at_the_limit_delays_nobody_else() {
        let turns = Turns::new(3);
        let first = wait(&turns, 'a', 1).await;
        let mut second = turns.draw('a', 1);
        assert_eq!(second.turn().await.err(), Some(1));
        let (b, c) = (wait(&turns, 'b', 1).await, wait(&turns, 'c', 1).await);
        drop(first);
        drop(second.turn().await.unwrap());
        drop((b, c, second));
        assert!(turns.0.lock().last.is_empty(), "nobody is remembered");
    }

    #[tokio::test]
    async fn the_number_of_turns_ahead_is_reported_when_it_changes() {
        let turns = Turns::new(2);
        let (first, second) = (wait(&turns, 'a', MANY).await, wait(&turns, 'a', MANY).await);
        let mut third = wait(&turns, 'a', MANY);
        assert!(poll!(&mut third).is_pending());
        let mut fourth = turns.draw('a', MANY);
        assert_eq!(fourth.turn().await.err(), Some(2));
        drop(first);
        assert_eq!(fourth.turn().await.err(), Some(1), "it does not overtake the third");
        let Poll::Ready(third) = poll!(&mut third) else { panic!("it is the third's turn") };
        assert!(poll!(Box::pin(fourth.turn())).is_pending());
        drop((second, third));
        assert!(fourth.turn().await.is_ok());
    }

    #[tokio::test]
    async fn a_cancelled_wait_does_not_delay_the_others() {
        let turns = Turns::new(1);
        let first = wait(&turns, 'a', MANY).await;
        let (mut second, mut third) = (wait(&turns, 'a', MANY), wait(&turns, 'a', MANY));
        assert!(poll!(&mut second).is_pending() && poll!(&mut third).is_pending());
        drop(second);
        drop(first);
        assert!(poll!(&mut third).is_ready());
    }
}

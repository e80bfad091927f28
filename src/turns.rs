//! Turns of what only a few may do at a time, such as builds and starts of containers, fair by owner.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    future::pending,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, watch};

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
    queue: Mutex<Queue<K>>,
    /// Sent when turns began or ended.
    changed: watch::Sender<()>,
}

/// As long as somebody waits, everybody is remembered who had a turn since: who is forgotten would come back as one who never had
/// any, ahead of those that wait.
#[derive(Debug)]
struct Queue<K> {
    max: usize,
    owners: HashMap<K, Owner>,
    /// Number of turns that are taken.
    running: usize,
    /// Number of turns that ever began.
    begun: u64,
    /// Number of tickets that wait.
    waiting: usize,
    next_ticket: u64,
    /// Whether `Waiting::ahead` is right.
    is_counted: bool,
}

#[derive(Debug, Default)]
struct Owner {
    /// Number of turns that the owner has.
    taken: usize,
    /// Number of turns that the owner may have, as it was last given.
    max: usize,
    /// The count of all turns at which the owner's last one began.
    last: u64,
    /// By ticket, which is the order of arrival.
    waiting: BTreeMap<u64, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    granted: Arc<Notify>,
    /// How many turns must end before.
    ahead: usize,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub struct Turn<K: Eq + Hash + Clone> {
    shared: Arc<Shared<K>>,
    owner: K,
}

/// A place in the queue, until it is dropped; a turn that it was given, and did not begin, goes to the next.
#[derive(Debug)]
pub struct Ticket<K: Eq + Hash + Clone> {
    shared: Arc<Shared<K>>,
    owner: K,
    number: u64,
    granted: Arc<Notify>,
    changed: watch::Receiver<()>,
    /// How many turns must end before, as it was last returned.
    ahead: usize,
    has_begun: bool,
}

impl<K: Eq + Hash + Clone> Turns<K> {
    /// At most `max` turns at a time.
    pub fn new(max: usize) -> Self {
        let queue =
            Queue { max, owners: HashMap::new(), running: 0, begun: 0, waiting: 0, next_ticket: 0, is_counted: false };
        Self(Arc::new(Shared { queue: Mutex::new(queue), changed: watch::Sender::new(()) }))
    }

    /// Waits for a turn of this owner, who may have at most `max` at a time.
    pub async fn take(&self, owner: K, max: usize) -> Turn<K> {
        let mut ticket = self.draw(owner, max);
        ticket.granted.notified().await;
        ticket.begin()
    }

    /// Draws a ticket for a turn of this owner, who may have at most `max` at a time.
    pub fn draw(&self, owner: K, max: usize) -> Ticket<K> {
        let granted = Arc::new(Notify::new());
        let changed = self.0.changed.subscribe();
        let mut queue = self.0.lock();
        let number = queue.add(owner.clone(), max.max(1), Arc::clone(&granted));
        let began = queue.give_turns();
        drop(queue);
        // Who is overtaken by this one learns that when the next turn ends: else each arrival would wake all that wait.
        if began > 0 {
            self.0.changed.send_replace(());
        }
        Ticket { shared: Arc::clone(&self.0), owner, number, granted, changed, ahead: 0, has_begun: false }
    }
}

impl<K: Eq + Hash + Clone> Ticket<K> {
    /// Waits for the turn. Whenever it changes how many turns must end before, returns that number: call it again. A ticket has
    /// one turn.
    pub async fn turn(&mut self) -> Result<Turn<K>, usize> {
        if self.has_begun {
            return pending().await;
        }
        loop {
            let ahead = self.shared.lock().ahead_of(&self.owner, self.number);
            match ahead {
                None => return Ok(self.begin()),
                Some(ahead) if ahead != self.ahead => {
                    self.ahead = ahead;
                    return Err(ahead);
                }
                Some(_) => {}
            }
            // The sender lives in `self`.
            let _ = self.changed.changed().await;
        }
    }

    /// The turn that the ticket was given.
    fn begin(&mut self) -> Turn<K> {
        self.has_begun = true;
        Turn { shared: Arc::clone(&self.shared), owner: self.owner.clone() }
    }
}

impl<K: Eq + Hash + Clone> Shared<K> {
    fn lock(&self) -> MutexGuard<'_, Queue<K>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a turn or takes back a ticket, and gives turns to the next.
    fn leave(&self, leave: impl FnOnce(&mut Queue<K>)) {
        let mut queue = self.lock();
        leave(&mut queue);
        queue.give_turns();
        drop(queue);
        self.changed.send_replace(());
    }
}

impl<K: Eq + Hash + Clone> Queue<K> {
    /// Adds a ticket; returns its number.
    fn add(&mut self, owner: K, max: usize, granted: Arc<Notify>) -> u64 {
        let number = self.next_ticket;
        self.next_ticket += 1;
        self.waiting += 1;
        self.is_counted = false;
        let owner = self.owners.entry(owner).or_default();
        owner.max = max;
        owner.waiting.insert(number, Waiting { granted, ahead: 0 });
        number
    }

    /// Begins all turns that may begin; returns their number. Afterwards all turns are taken, or each owner that waits has all
    /// that this owner may have.
    fn give_turns(&mut self) -> usize {
        let mut began = 0;
        while self.running < self.max {
            let ranked = self.owners.values_mut().filter_map(|owner| owner.rank().map(|rank| (rank, owner)));
            let Some((_, next)) = ranked.min_by_key(|(rank, _)| *rank) else { break };
            let Some((_, waiting)) = next.waiting.pop_first() else { break };
            self.begun += 1;
            next.last = self.begun;
            next.taken += 1;
            self.running += 1;
            self.waiting -= 1;
            self.is_counted = false;
            waiting.granted.notify_one();
            began += 1;
        }
        if self.waiting == 0 {
            self.owners.retain(|_, owner| owner.taken > 0);
        }
        began
    }

    /// Ends a turn of an owner.
    fn end(&mut self, owner: &K) {
        if let Some(owner) = self.owners.get_mut(owner) {
            owner.taken -= 1;
            self.running -= 1;
            self.is_counted = false;
        }
    }

    /// Takes back a ticket, or the turn that it was given.
    fn take_back(&mut self, owner: &K, ticket: u64) {
        let waited = self.owners.get_mut(owner).and_then(|owner| owner.waiting.remove(&ticket));
        if waited.is_some() {
            self.waiting -= 1;
            self.is_counted = false;
        } else {
            self.end(owner);
        }
    }

    /// How many turns must end before that of a ticket; `None` if it was given its turn.
    fn ahead_of(&mut self, owner: &K, ticket: u64) -> Option<usize> {
        if !self.is_counted {
            self.count_ahead();
            self.is_counted = true;
        }
        Some(self.owners.get(owner)?.waiting.get(&ticket)?.ahead)
    }

    /// Determines for all that wait how many turns must end before, in the order in which they would begin if none ended.
    fn count_ahead(&mut self) {
        let (mut before, mut begun) = (0, self.begun);
        let mut candidates = Vec::new();
        let mut ranked = BinaryHeap::new();
        for owner in self.owners.values_mut() {
            // Those beyond what the owner may have wait for the owner's own turns.
            for (place, waiting) in (1..).zip(owner.waiting.values_mut()) {
                waiting.ahead = (owner.taken + place).saturating_sub(owner.max).max(1);
            }
            let mut may_begin = owner.waiting.iter_mut().take(owner.max.saturating_sub(owner.taken));
            if let Some((ticket, waiting)) = may_begin.next() {
                ranked.push(Reverse((owner.taken, owner.last, *ticket, candidates.len())));
                candidates.push((waiting, may_begin));
            }
        }
        while let Some(Reverse((taken, _, _, candidate))) = ranked.pop() {
            let (waiting, following) = &mut candidates[candidate];
            before += 1;
            begun += 1;
            waiting.ahead = (self.running + before).saturating_sub(self.max);
            if let Some((ticket, next)) = following.next() {
                *waiting = next;
                ranked.push(Reverse((taken + 1, begun, *ticket, candidate)));
            }
        }
    }
}

impl Owner {
    /// The owner with the lowest rank is next; `None` if nobody waits who may have a turn.
    fn rank(&self) -> Option<(usize, u64, u64)> {
        let (first, _) = self.waiting.first_key_value().filter(|_| self.taken < self.max)?;
        Some((self.taken, self.last, *first))
    }
}

impl<K: Eq + Hash + Clone> Drop for Ticket<K> {
    fn drop(&mut self) {
        if !self.has_begun {
            self.shared.leave(|queue| queue.take_back(&self.owner, self.number));
        }
    }
}

impl<K: Eq + Hash + Clone> Drop for Turn<K> {
    fn drop(&mut self) {
        self.shared.leave(|queue| queue.end(&self.owner));
    }
}

/// A limit as the number of turns that an owner may have at a time.
pub fn as_max(limit: Option<u64>) -> usize {
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::poll_fn, pin::Pin, rc::Rc, task::Poll};

    use futures_util::{StreamExt as _, poll, stream::FuturesUnordered};

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
        assert!(turns.0.lock().owners.is_empty(), "nobody is remembered");
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

    #[tokio::test]
    async fn a_turn_that_was_given_and_not_begun_goes_to_the_next() {
        let turns = Turns::new(1);
        let first = wait(&turns, 'a', MANY).await;
        let (given, mut third) = (turns.draw('b', MANY), wait(&turns, 'c', MANY));
        let mut asked = wait(&turns, 'd', MANY);
        assert!(poll!(&mut third).is_pending() && poll!(&mut asked).is_pending());
        drop(first);
        drop(given);
        drop(third);
        assert!(poll!(&mut asked).is_ready());
    }

    #[tokio::test]
    async fn owners_that_come_back_one_by_one_do_not_overtake_the_one_that_waits() {
        let turns = Turns::new(1);
        let mut held = wait(&turns, 'a', MANY).await;
        let mut of_a = wait(&turns, 'a', MANY);
        assert!(poll!(&mut of_a).is_pending());
        let mut before = 0;
        // Each of these has a turn and no ticket, or a ticket and no turn.
        for owner in "bcbcbcbc".chars() {
            let mut next = wait(&turns, owner, MANY);
            assert!(poll!(&mut next).is_pending());
            drop(held);
            if poll!(&mut of_a).is_ready() {
                break;
            }
            held = next.await;
            before += 1;
        }
        assert_eq!(before, 2, "each of the others goes first once");
    }

    /// Polls a future, and counts how often.
    fn counted<F: Future>(future: F, polls: Rc<Cell<usize>>) -> impl Future<Output = F::Output> {
        let mut future = Box::pin(future);
        poll_fn(move |cx| {
            polls.set(polls.get() + 1);
            future.as_mut().poll(cx)
        })
    }

    #[tokio::test]
    async fn of_two_thousand_that_wait_only_the_next_is_woken() {
        const WAITING: usize = 2000;
        let (turns, polls) = (Turns::new(4), Rc::new(Cell::new(0)));
        let held: Vec<_> = (0..4).map(|_| turns.take(usize::MAX, MANY)).collect();
        let held = futures_util::future::join_all(held).await;
        let mut waiting: FuturesUnordered<_> = (0..WAITING)
            .map(|number| {
                let turns = turns.clone();
                counted(async move { (number % 50, turns.take(number % 50, 2).await) }, Rc::clone(&polls))
            })
            .collect();
        assert!(poll!(waiting.next()).is_pending());
        drop(held);
        let mut order = Vec::new();
        while let Some((owner, turn)) = waiting.next().await {
            order.push(owner);
            drop(turn);
        }
        assert_eq!(order.len(), WAITING);
        assert!(polls.get() <= 2 * WAITING, "{} polls", polls.get());
        for round in order.chunks(50) {
            assert_eq!(round.iter().collect::<std::collections::HashSet<_>>().len(), 50, "each owner once: {round:?}");
        }
    }

    #[tokio::test]
    async fn two_thousand_that_show_how_many_are_ahead_are_counted_once_a_change() {
        const WAITING: usize = 2000;
        let turns = Turns::new(4);
        let held: Vec<_> = futures_util::future::join_all((0..4).map(|_| turns.take(usize::MAX, MANY))).await;
        let mut tickets: Vec<_> = (0..WAITING).map(|number| turns.draw(number % 50, MANY)).collect();
        let mut ahead = Vec::new();
        for ticket in &mut tickets {
            ahead.push(ticket.turn().await.unwrap_err());
        }
        assert_eq!(ahead, (1..=WAITING).collect::<Vec<_>>());
        drop(held);
        for (place, ticket) in tickets.iter_mut().enumerate().skip(4) {
            assert_eq!(ticket.turn().await.err(), Some(place - 3));
        }
    }
}

#[cfg(test)]
mod properties {
    use futures_util::FutureExt as _;
    use proptest::{collection::vec, prelude::any, sample::Index};

    use super::*;
    use crate::properties::check;

    /// The rules, as plainly as they can be written.
    #[derive(Debug, Default)]
    struct Model {
        max: usize,
        taken: HashMap<u8, usize>,
        last: HashMap<u8, u64>,
        begun: u64,
        /// Number of the ticket, and its owner, in order of arrival.
        waiting: Vec<(usize, u8)>,
    }

    fn max_of(owner: u8) -> usize {
        usize::from(owner % 3) + 1
    }

    impl Model {
        fn next(&self) -> Option<usize> {
            let rank =
                |owner| (self.taken.get(owner).copied().unwrap_or(0), self.last.get(owner).copied().unwrap_or(0));
            let candidates = self.waiting.iter().enumerate().filter(|(_, (_, owner))| rank(owner).0 < max_of(*owner));
            candidates.min_by_key(|(place, (_, owner))| (rank(owner), *place)).map(|(place, _)| place)
        }

        fn running(&self) -> usize {
            self.taken.values().sum()
        }

        fn begin(&mut self, place: usize) {
            let (_, owner) = self.waiting.remove(place);
            self.begun += 1;
            *self.taken.entry(owner).or_default() += 1;
            self.last.insert(owner, self.begun);
        }

        fn give(&mut self) {
            while self.running() < self.max
                && let Some(next) = self.next()
            {
                self.begin(next);
            }
            if self.waiting.is_empty() {
                let Self { taken, last, .. } = self;
                last.retain(|owner, _| taken.get(owner).is_some_and(|taken| *taken > 0));
            }
        }

        fn ahead_of(&self, ticket: usize) -> Option<usize> {
            let (_, owner) = self.waiting.iter().find(|(number, _)| *number == ticket)?;
            let mut later = Self {
                max: self.max,
                taken: self.taken.clone(),
                last: self.last.clone(),
                begun: self.begun,
                waiting: self.waiting.clone(),
            };
            while let Some(next) = later.next() {
                if later.waiting[next].0 == ticket {
                    return Some(later.running() + 1 - self.max);
                }
                later.begin(next);
            }
            let earlier = self.waiting.iter().filter(|(number, of)| of == owner && *number <= ticket).count();
            Some((self.taken.get(owner).copied().unwrap_or(0) + earlier - max_of(*owner)).max(1))
        }
    }

    #[test]
    fn turns_go_to_whom_the_rules_name_whatever_is_dropped() {
        let steps = vec((0..10_u8, 0..7_u8, any::<Index>()), 0..60);
        check((1..4_usize, steps), |(max, steps)| {
            let (turns, mut model) = (Turns::new(max), Model { max, ..Model::default() });
            let (mut tickets, mut running) = (Vec::new(), Vec::new());
            for (number, (act, owner, which)) in steps.into_iter().enumerate() {
                match act {
                    0..5 => {
                        tickets.push((number, owner, turns.draw(owner, max_of(owner))));
                        model.waiting.push((number, owner));
                    }
                    5..7 if !running.is_empty() => {
                        let (owner, turn) = running.swap_remove(which.index(running.len()));
                        drop(turn);
                        *model.taken.get_mut(&owner).unwrap() -= 1;
                    }
                    7 if !tickets.is_empty() => {
                        let (number, owner, ticket) = tickets.remove(which.index(tickets.len()));
                        drop(ticket);
                        match model.waiting.iter().position(|(waiting, _)| *waiting == number) {
                            Some(place) => drop(model.waiting.remove(place)),
                            None => *model.taken.get_mut(&owner).unwrap() -= 1,
                        }
                    }
                    _ => tickets.retain_mut(|(_, owner, ticket)| match ticket.turn().now_or_never() {
                        Some(Ok(turn)) => {
                            running.push((*owner, turn));
                            false
                        }
                        Some(Err(_)) | None => true,
                    }),
                }
                model.give();
                for (number, owner, ticket) in &tickets {
                    let ahead = turns.0.lock().ahead_of(owner, ticket.number);
                    assert_eq!(ahead, model.ahead_of(*number), "ticket {number} after step");
                }
            }
            drop((tickets, running));
            let queue = turns.0.lock();
            assert_eq!((queue.running, queue.waiting, queue.owners.len()), (0, 0, 0));
        });
    }
}

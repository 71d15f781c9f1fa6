//! What happens in a round, drawn from its seed alone: the same seed gives the same plan.

use std::time::Duration;

use crate::fault::Fault;

/// How large the cluster's world is, and how fast things happen in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scale {
    /// Clients, each on 1-6 channels.
    pub clients: usize,
    /// Channels, each with a publisher of its own.
    pub channels: usize,
    /// From an event to the next on the same channel.
    pub pause: Duration,
    /// How long all is well before the first fault, and again after the last.
    pub calm: Duration,
    /// Within how long the faults of a round begin.
    pub spread: Duration,
    /// How long everything may take to be well again.
    pub patience: Duration,
}

impl Scale {
    /// Of the command line: rounds of 5-20 s.
    #[must_use]
    pub fn full(clients: usize, channels: usize) -> Self {
        Self {
            clients,
            channels,
            pause: Duration::from_millis(100),
            calm: Duration::from_millis(1_500),
            spread: Duration::from_secs(4),
            patience: Duration::from_secs(30),
        }
    }

    /// Of a test: small, and over soon.
    #[must_use]
    pub fn small() -> Self {
        let calm = Duration::from_millis(600);
        Self { calm, spread: Duration::ZERO, ..Self::full(12, 6) }
    }
}

/// A round.
#[derive(Debug, Clone)]
pub struct Plan {
    /// All there is to draw from.
    pub seed: u64,
    /// What goes wrong, and how long after the first moment for faults.
    pub faults: Vec<(Fault, Duration)>,
    /// The clients.
    pub clients: Vec<Visitor>,
}

/// A client, as it is going to behave.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// Its channels, by number; each once.
    pub channels: Vec<usize>,
    /// When it comes, counted from the first one.
    pub comes: Duration,
    /// What it draws from.
    pub seed: u64,
}

impl Plan {
    /// Draws a round with one to three faults out of `among`, or `count` of them where it is given.
    #[must_use]
    pub fn draw(seed: u64, among: &[Fault], count: Option<usize>, scale: &Scale) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let count = count.unwrap_or_else(|| [1, 1, 2, 2, 3][rng.usize(..5)]);
        let mut left = among.to_vec();
        rng.shuffle(&mut left);
        let mut faults: Vec<(Fault, Duration)> = Vec::new();
        for fault in left {
            // There is one replica.
            let taken = fault.needs_replica() && faults.iter().any(|(fault, _)| fault.needs_replica());
            if faults.len() < count && !taken {
                faults.push((fault, part(&mut rng, scale.spread)));
            }
        }
        faults.sort_by_key(|(_, at)| *at);
        let clients = (0..scale.clients).map(|_| Visitor::draw(&mut rng, scale)).collect();
        Self { seed, faults, clients }
    }

    /// The faults, as the output names them.
    #[must_use]
    pub fn title(&self) -> String {
        let names: Vec<_> = self.faults.iter().map(|(fault, _)| fault.name()).collect();
        if names.is_empty() { "no fault".to_owned() } else { names.join(" + ") }
    }

    /// Whether some fault wants this.
    #[must_use]
    pub fn needs(&self, what: fn(Fault) -> bool) -> bool {
        self.faults.iter().any(|(fault, _)| what(*fault))
    }
}

impl Visitor {
    fn draw(rng: &mut fastrand::Rng, scale: &Scale) -> Self {
        let wanted = rng.usize(1..=6).min(scale.channels);
        let mut channels: Vec<usize> = (0..scale.channels).collect();
        rng.shuffle(&mut channels);
        channels.truncate(wanted);
        // A fifth of them comes while things go wrong.
        let late = rng.u8(..5) == 0;
        let comes = if late { scale.calm + part(rng, scale.spread + scale.calm) } else { Duration::ZERO };
        Self { channels, comes, seed: rng.u64(..) }
    }
}

fn part(rng: &mut fastrand::Rng, whole: Duration) -> Duration {
    whole.mul_f64(rng.f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_plan() {
        let scale = Scale::full(60, 24);
        let text = |seed| format!("{:?}", Plan::draw(seed, &Fault::ALL, None, &scale));
        assert_eq!(text(7), text(7));
        assert_ne!(text(7), text(8));
    }

    #[test]
    fn plans_are_within_their_bounds() {
        let scale = Scale::full(30, 3);
        let mut seen = std::collections::HashSet::new();
        for seed in 0..500 {
            let plan = Plan::draw(seed, &Fault::ALL, None, &scale);
            assert!((1..=3).contains(&plan.faults.len()));
            assert!(plan.faults.iter().filter(|(fault, _)| fault.needs_replica()).count() <= 1, "{}", plan.title());
            assert!(plan.faults.is_sorted_by_key(|(_, at)| *at));
            assert_eq!(plan.clients.len(), 30);
            for client in &plan.clients {
                assert!((1..=3).contains(&client.channels.len()) && client.channels.iter().all(|at| *at < 3));
            }
            seen.extend(plan.faults.iter().map(|(fault, _)| *fault));
        }
        assert_eq!(seen.len(), Fault::ALL.len());
        let moves = Plan::draw(1, &[Fault::SlotMoved, Fault::PrimaryAdded], Some(2), &scale);
        assert!(
            moves.needs(Fault::needs_spare) && !moves.needs(Fault::needs_replica) && !moves.needs(Fault::needs_disk)
        );
        assert_eq!(Plan::draw(1, &[Fault::Reset], Some(3), &scale).title(), "reset");
        assert_eq!(Plan::draw(1, &[], None, &scale).title(), "no fault");
    }
}

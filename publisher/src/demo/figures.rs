//! The figures of the dashboard: random walks that stay where such figures stay. Nothing of it is real but the names.

use fastrand::Rng;
use serde::Serialize;

/// Symbol, name, where its price begins, and the steps in which it is quoted, in won.
const STOCKS: [(&str, &str, f64, f64); 6] = [
    ("KRX:005930", "삼성전자", 71_200.0, 100.0),
    ("KRX:000660", "SK하이닉스", 183_500.0, 500.0),
    ("KRX:035420", "NAVER", 171_300.0, 100.0),
    ("KRX:035720", "카카오", 41_250.0, 50.0),
    ("KRX:005380", "현대차", 242_500.0, 500.0),
    ("KRX:068270", "셀트리온", 178_400.0, 100.0),
];
/// Name, unit, where it begins, its least and its most, and how far it goes at once.
const METRICS: [(&str, &str, [f64; 4]); 4] = [
    ("cpu", "%", [34.0, 2.0, 98.0, 4.0]),
    ("memory", "MB", [512.0, 380.0, 900.0, 9.0]),
    ("requests", "/s", [840.0, 120.0, 1_600.0, 60.0]),
    ("errors", "/s", [0.8, 0.0, 9.0, 0.4]),
];
/// A price goes so far from where it began at most: the exchange's own daily bound.
const MOST_CHANGE: f64 = 0.3;
/// A price goes so far at once at most.
const STRIDE: f64 = 0.004;
const MOST_SHARES: u32 = 200;
/// The first order is the one after it.
const FIRST_ORDER: u64 = 10_000;

/// Event `price` of `demo:prices`.
#[derive(Debug, Serialize)]
pub(super) struct Price {
    n: u64,
    symbol: &'static str,
    name: &'static str,
    price: f64,
    /// Per cent of where it began.
    change: f64,
}

/// Event `metric` of `demo:metrics`.
#[derive(Debug, Serialize)]
pub(super) struct Metric {
    n: u64,
    name: &'static str,
    value: f64,
    unit: &'static str,
}

/// Event `order` of `demo:orders`.
#[derive(Debug, Serialize)]
pub(super) struct Order {
    n: u64,
    id: String,
    side: &'static str,
    symbol: &'static str,
    quantity: u32,
    price: f64,
}

/// Where every figure is now.
pub(super) struct Figures {
    prices: [f64; STOCKS.len()],
    metrics: [f64; METRICS.len()],
    random: Rng,
}

impl Figures {
    pub(super) fn new(random: Rng) -> Self {
        Self { prices: STOCKS.map(|(_, _, price, _)| price), metrics: METRICS.map(|(_, _, [value, ..])| value), random }
    }

    /// The next price; stocks come in turn. `n` is its number on its channel.
    pub(super) fn price(&mut self, n: u64) -> Price {
        let (symbol, name, began, step) = in_turn(&STOCKS, n);
        let price = in_turn_mut(&mut self.prices, n);
        let moved = *price * (1.0 + STRIDE * (2.0 * self.random.f64() - 1.0));
        let within = moved.clamp(began * (1.0 - MOST_CHANGE), began * (1.0 + MOST_CHANGE));
        // A price that moved less than half a step would never move.
        *price = within;
        let quoted = quoted(within, step);
        Price { n, symbol, name, price: quoted, change: rounded(100.0 * (quoted / began - 1.0), 100.0) }
    }

    /// The next metric; they come in turn.
    pub(super) fn metric(&mut self, n: u64) -> Metric {
        let (name, unit, [_, least, most, stride]) = in_turn(&METRICS, n);
        let value = in_turn_mut(&mut self.metrics, n);
        *value = (*value + stride * (2.0 * self.random.f64() - 1.0)).clamp(least, most);
        Metric { n, name, value: rounded(*value, 10.0), unit }
    }

    /// The next order, at the price of the moment.
    pub(super) fn order(&mut self, n: u64) -> Order {
        let stock = self.random.usize(..STOCKS.len());
        let (symbol, _, _, step) = STOCKS[stock];
        Order {
            n,
            id: format!("A-{}", FIRST_ORDER + n),
            side: if self.random.bool() { "buy" } else { "sell" },
            symbol,
            quantity: self.random.u32(1..=MOST_SHARES),
            price: quoted(self.prices[stock], step),
        }
    }
}

fn place(n: u64, length: usize) -> usize {
    usize::try_from(n % u64::try_from(length).unwrap_or(1)).unwrap_or(0)
}

fn in_turn<T: Copy>(all: &[T], n: u64) -> T {
    all[place(n, all.len())]
}

fn in_turn_mut(all: &mut [f64], n: u64) -> &mut f64 {
    let place = place(n, all.len());
    &mut all[place]
}

fn quoted(price: f64, step: f64) -> f64 {
    (price / step).round() * step
}

/// To the nearest `parts`-th. Never the negative zero, which people would see.
fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_each_kind() {
        let mut figures = Figures::new(Rng::with_seed(1));
        let price = serde_json::to_string(&figures.price(6)).unwrap();
        assert!(price.starts_with(r#"{"n":6,"symbol":"KRX:005930","name":"삼성전자","price":7"#), "{price}");
        assert!(price.contains(r#"00.0,"change":"#), "{price}");
        let metric = serde_json::to_string(&figures.metric(1)).unwrap();
        assert!(metric.starts_with(r#"{"n":1,"name":"memory","value":5"#), "{metric}");
        assert!(metric.ends_with(r#","unit":"MB"}"#), "{metric}");
        let order = serde_json::to_string(&figures.order(293)).unwrap();
        assert!(order.starts_with(r#"{"n":293,"id":"A-10293","side":""#), "{order}");
    }

    #[test]
    fn figures_move_and_stay_where_they_belong() {
        let mut figures = Figures::new(Rng::with_seed(7));
        let (mut prices, mut metrics) = (Vec::new(), Vec::new());
        for n in 1..=60_000 {
            let price = figures.price(n);
            let (_, _, began, step) = STOCKS[place(n, STOCKS.len())];
            assert!((price.price / began - 1.0).abs() <= MOST_CHANGE + step / began, "{price:?}");
            assert!((price.price % step).abs() < 1e-6, "{price:?}");
            assert!(price.change.abs() <= 31.0 && price.change.to_string() != "-0", "{price:?}");
            prices.push(price.price);
            let metric = figures.metric(n);
            let (_, _, [_, least, most, _]) = METRICS[place(n, METRICS.len())];
            assert!((least..=most).contains(&metric.value), "{metric:?}");
            metrics.push(metric.value);
            let order = figures.order(n);
            assert!((1..=MOST_SHARES).contains(&order.quantity), "{order:?}");
        }
        for (all, every) in [(prices, STOCKS.len()), (metrics, METRICS.len())] {
            for first in 0..every {
                let one: Vec<_> = all.iter().skip(first).step_by(every).take(100).collect();
                assert!(one.iter().any(|value| *value != one[0]), "{one:?} stand still");
            }
        }
    }
}

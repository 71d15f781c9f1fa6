//! The contract of every broker, one suite for all: what a publish does, what a read sees, what a subscriber hears, what
//! a cancellation does. A broker that passes can carry a gateway.
//!
//! Nothing here knows how a broker works, or waits a fixed time: what takes time is waited for by its effect.

pub mod cancelling;
mod fixture;
pub mod hearing;
pub mod history;
pub mod publishing;

pub use fixture::{Fixture, PARTITIONS};

/// Runs every case of the suite on one broker, each as a test of its own. `$start` makes a fixture with nothing in it.
macro_rules! contract {
    ($start:path) => {
        contract! { $start: publishing:
            positions_rise_over_all_channels
            an_event_knows_the_one_before_it
            a_receipt_says_where_the_event_stands
            concurrent_publishes_have_positions_of_their_own
            once_publishes_once
            once_is_decided_for_each_channel_alone
            once_among_many_at_once
            any_bytes_come_back_as_they_were
            an_ephemeral_event_leaves_no_trace
            receivers_are_nodes_with_somebody_there
        }
        contract! { $start: history:
            entries_after_a_position_in_order
            history_is_bounded_in_number
            history_expires_and_the_last_position_stays
            expiry_is_only_ever_put_off
            an_end_is_remembered_until_the_channel_opens_again
            an_ephemeral_end_ends_nothing
            an_unknown_channel_is_empty
            the_clock_covers_everything_published
        }
        contract! { $start: hearing:
            what_is_subscribed_is_heard_in_order
            only_what_is_subscribed_is_heard
            live_and_the_snapshot_leave_no_hole
            every_life_of_a_channel_is_answered
            messages_carry_what_the_history_holds
            ephemeral_events_are_heard_between_durable_ones
            a_barrier_comes_after_what_it_covers
            a_session_comes_first_and_names_the_epoch_of_cursors
            many_channels_at_once
        }
        contract! { $start: cancelling:
            whoever_waits_is_woken
            one_who_comes_later_finds_it_so
            cancelled_twice_is_cancelled
            nothing_is_published_and_the_channel_stays_open
            who_does_not_wait_any_more_is_not_counted
            many_wait
        }
    };
    ($start:path: $module:ident: $($case:ident)*) => {
        mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let fixture = $start().await;
                $crate::contract::$module::$case(&fixture).await;
                fixture.stop().await;
            })*
        }
    };
}
pub(crate) use contract;

#![doc = include_str!("book/book.md")]

pub mod first_actor {
    #![doc = include_str!("book/first_actor.md")]
    #![doc = concat!("```\n", include_str!("book/account.rs"), "```\n")]
    #![doc = include_str!("book/first_actor_running.md")]
}

pub mod recovery {
    #![doc = include_str!("book/recovery.md")]
}

pub mod snapshots {
    #![doc = include_str!("book/snapshots.md")]
}

pub mod schema_change {
    #![doc = include_str!("book/schema_change.md")]
}

pub mod delivery {
    #![doc = include_str!("book/delivery.md")]
}

pub mod read_side {
    #![doc = include_str!("book/read_side.md")]
}

pub mod testing {
    #![doc = include_str!("book/testing.md")]
}

pub mod guarantees {
    #![doc = include_str!("book/guarantees.md")]
}

//! The rules by which picker and choker do better than the bare protocol asks, each with where it comes from. All are
//! followed; the simulator leaves one out at a time, to show what it is worth.

/// One of the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The first piece is any, not the rarest (BEP 3).
    RandomFirst,
    /// A piece that was begun goes before a new one (BEP 3's strict priority).
    StrictPriority,
    /// A fast peer that waits for memory is asked for what slow ones hold, as libtorrent keeps peers of unlike speed apart.
    TakeOver,
    /// The last blocks are asked of several peers (BEP 3's endgame mode).
    Endgame,
    /// A seed suggests to each peer what no other is about to get (BEP 6).
    Suggestions,
    /// A fast line has more than four slots and one.
    MoreSlots,
    /// A free slot is given at once, not in the next round; so is that of a peer that makes no use of it.
    FreeSlots,
    /// Whoever gives us the most is served (BEP 3's tit for tat).
    TitForTat,
    /// Newcomers are three times as likely to get a slot by chance (BEP 3).
    Newcomers,
    /// Whoever keeps us waiting is soon asked for next to nothing, and after a minute gets no slot by rate (BEP 3's
    /// anti-snubbing).
    AntiSnubbing,
    /// A peer that has nothing yet may fetch a few pieces though it is choked (BEP 6).
    AllowedFast,
    /// Whoever gave a wrong block is found and banned.
    SmartBan,
}

/// Some of the rules; by default all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// One bit for each that is left out.
    without: u16,
}

impl Rules {
    /// All of them.
    pub const ALL: Self = Self { without: 0 };

    /// All of these but one.
    #[must_use]
    pub const fn without(self, rule: Rule) -> Self {
        Self { without: self.without | 1 << rule as u16 }
    }

    /// Whether this one is followed.
    pub const fn has(self, rule: Rule) -> bool {
        self.without & 1 << rule as u16 == 0
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::ALL
    }
}

impl Rule {
    /// Each with its name.
    pub const NAMED: [(&'static str, Rule); 12] = [
        ("random-first", Rule::RandomFirst),
        ("strict-priority", Rule::StrictPriority),
        ("take-over", Rule::TakeOver),
        ("endgame", Rule::Endgame),
        ("suggestions", Rule::Suggestions),
        ("more-slots", Rule::MoreSlots),
        ("free-slots", Rule::FreeSlots),
        ("tit-for-tat", Rule::TitForTat),
        ("newcomers", Rule::Newcomers),
        ("anti-snubbing", Rule::AntiSnubbing),
        ("allowed-fast", Rule::AllowedFast),
        ("smart-ban", Rule::SmartBan),
    ];

    /// The one that is called so.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMED.into_iter().find(|(known, _)| *known == name).map(|(_, rule)| rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_left_out_by_itself() {
        for (name, rule) in Rule::NAMED {
            let rules = Rules::ALL.without(rule);
            let left = Rule::NAMED.into_iter().filter(|&(_, other)| !rules.has(other));
            assert_eq!(left.collect::<Vec<_>>(), [(name, rule)]);
            assert_eq!(Rule::named(name), Some(rule));
        }
        assert_eq!(Rule::named("all"), None);
    }
}

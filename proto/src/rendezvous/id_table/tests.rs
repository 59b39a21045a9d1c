use super::*;
use crate::{
    host_key::tests::host_key,
    rendezvous::{messages::AgentInfo, token::Token},
};

const GRACE: Duration = Duration::from_mins(10);

fn id(text: &str) -> Id {
    text.parse().unwrap()
}

fn agent(key: u8, wanted: Option<&str>) -> VerifiedAgent {
    VerifiedAgent {
        wanted: wanted.map(id),
        host_key: host_key(key),
        info: AgentInfo::default(),
        token: None,
        fell_back: None,
    }
}

/// A table, and what its callers would have to remember.
struct Fixture {
    table: IdTable,
    now: Instant,
    links: u64,
}

impl Fixture {
    fn new(max_ids: usize) -> Self {
        Self { table: IdTable::new(GRACE, max_ids, 2), now: Instant::now(), links: 0 }
    }

    fn claim(&mut self, key: u8, wanted: Option<&str>) -> Result<Claim, TableFull> {
        self.links += 1;
        let mut generated = 0;
        self.table.claim(&agent(key, wanted), LinkNumber(self.links), || {
            generated += 1;
            id(&format!("generated-{generated}"))
        })
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.table.handle_timeout(self.now);
    }
}

#[expect(clippy::unnecessary_wraps)] // It is compared with results.
fn given(text: &str) -> Result<Claim, TableFull> {
    Ok(Claim { id: id(text), reassigned: None, replaced: None })
}

#[test]
fn free_id_is_given_as_asked() {
    let mut fixture = Fixture::new(10);
    assert_eq!(fixture.claim(1, Some("build")), given("build"));
    assert_eq!(fixture.claim(1, None), given("generated-1"));
    assert_eq!(fixture.claim(2, None), given("generated-2"), "a taken one is not generated again");
}

#[test]
fn same_key_takes_over_at_once() {
    let mut fixture = Fixture::new(10);
    fixture.claim(1, Some("build")).unwrap();
    let claim = fixture.claim(1, Some("build")).unwrap();
    assert_eq!((claim.id, claim.replaced), (id("build"), Some(LinkNumber(1))));
    fixture.table.lose(&id("build"), LinkNumber(1), fixture.now);
    assert_eq!(fixture.table.poll_timeout(), None, "the leftover's end does not touch the new holder");
    fixture.table.give_up(&id("build"), LinkNumber(1));
    assert_eq!(fixture.claim(2, Some("build")).unwrap().reassigned, Some(Reassigned::HeldByAnotherKey));
}

#[test]
fn id_of_another_key_is_not_evicted() {
    let mut fixture = Fixture::new(10);
    fixture.claim(1, Some("build")).unwrap();
    let claim = fixture.claim(2, Some("build")).unwrap();
    let expected =
        Claim { id: id("generated-1"), reassigned: Some(Reassigned::HeldByAnotherKey), replaced: None };
    assert_eq!(claim, expected);
}

#[test]
fn lost_id_is_reserved_for_its_key_and_then_free() {
    let mut fixture = Fixture::new(10);
    fixture.claim(1, Some("build")).unwrap();
    fixture.table.lose(&id("build"), LinkNumber(1), fixture.now);
    fixture.pass(GRACE.checked_sub(Duration::from_millis(1)).unwrap());
    assert!(fixture.claim(2, Some("build")).unwrap().reassigned.is_some(), "still reserved");
    assert_eq!(fixture.claim(1, Some("build")), given("build"), "for its own key");
    fixture.table.lose(&id("build"), LinkNumber(3), fixture.now);
    fixture.pass(GRACE);
    assert_eq!(fixture.claim(2, Some("build")), given("build"), "free after the grace time");
}

#[test]
fn goodbye_frees_the_id_at_once() {
    let mut fixture = Fixture::new(10);
    fixture.claim(1, Some("build")).unwrap();
    fixture.table.give_up(&id("build"), LinkNumber(1));
    assert_eq!(fixture.claim(2, Some("build")), given("build"));
}

#[test]
fn full_table_refuses_newcomers_and_keeps_its_own() {
    let mut fixture = Fixture::new(1);
    fixture.claim(1, Some("build")).unwrap();
    assert_eq!(fixture.claim(2, Some("other")), Err(TableFull));
    assert_eq!(fixture.claim(2, None), Err(TableFull));
    assert!(fixture.claim(1, Some("build")).is_ok());
    fixture.table.give_up(&id("build"), LinkNumber(4));
    assert_eq!(fixture.claim(2, Some("other")), given("other"));
}

#[test]
fn table_that_became_too_small_keeps_its_own_and_takes_no_other() {
    let mut fixture = Fixture::new(2);
    fixture.claim(1, Some("build")).unwrap();
    fixture.claim(2, Some("other")).unwrap();
    fixture.table.set_max_ids(1);
    assert!(fixture.claim(1, Some("build")).is_ok());
    fixture.table.give_up(&id("other"), LinkNumber(2));
    assert_eq!(fixture.claim(3, None), Err(TableFull));
    fixture.table.set_max_ids(2);
    assert!(fixture.claim(3, None).is_ok());
}

#[test]
fn generator_that_finds_no_free_id_is_an_error_not_a_loop() {
    let mut fixture = Fixture::new(10);
    fixture.claim(1, Some("same")).unwrap();
    assert_eq!(fixture.table.claim(&agent(2, None), LinkNumber(9), || id("same")), Err(TableFull));
}

fn token(text: &str) -> Token {
    text.parse().unwrap()
}

impl Fixture {
    fn reserve(&mut self, name: &str, secret: &str, time: Duration) -> Result<(), ReserveError> {
        self.table.reserve(id(name), SecretHash::of(&token(secret)), self.now + time)
    }

    fn claim_with(&mut self, key: u8, wanted: Option<&str>, secret: &str) -> Claim {
        self.links += 1;
        let agent = VerifiedAgent { token: Some(token(secret)), ..agent(key, wanted) };
        self.table.claim(&agent, LinkNumber(self.links), || id("generated-9")).unwrap()
    }
}

const MINUTE: Duration = Duration::from_mins(1);

#[test]
fn reserved_id_is_for_the_bearer_of_its_token_alone() {
    let mut fixture = Fixture::new(10);
    fixture.reserve("build", "secret", MINUTE).unwrap();
    let stranger = fixture.claim(1, Some("build")).unwrap();
    assert_eq!((stranger.id, stranger.reassigned), (id("generated-1"), Some(Reassigned::Reserved)));
    let wrong = fixture.claim_with(2, Some("build"), "guess");
    assert_eq!((wrong.id, wrong.reassigned), (id("generated-9"), Some(Reassigned::Reserved)));
    assert_eq!(Ok(fixture.claim_with(3, None, "secret")), given("build"), "without being asked for");
    let late = fixture.claim(4, Some("build")).unwrap();
    assert_eq!(late.reassigned, Some(Reassigned::HeldByAnotherKey));
}

#[test]
fn token_of_a_reservation_serves_one_host_key_for_one_id() {
    let mut fixture = Fixture::new(10);
    fixture.reserve("build", "secret", MINUTE).unwrap();
    let claim = fixture.claim_with(1, Some("other"), "secret");
    assert_eq!((claim.id, claim.reassigned), (id("build"), Some(Reassigned::ByToken)));
    let thief = fixture.claim_with(2, Some("build"), "secret");
    assert_eq!((thief.id, thief.reassigned), (id("generated-9"), Some(Reassigned::HeldByAnotherKey)));
    fixture.table.lose(&id("build"), LinkNumber(1), fixture.now);
    fixture.pass(MINUTE * 2);
    assert_eq!(Ok(fixture.claim_with(1, Some("build"), "secret")), given("build"), "back in the grace time");
    fixture.table.give_up(&id("build"), LinkNumber(3));
    assert_eq!(fixture.claim(4, Some("build")), given("build"), "a goodbye ends the reservation");
}

#[test]
fn reservation_ends_by_itself_or_when_it_is_taken_back() {
    let mut fixture = Fixture::new(10);
    fixture.reserve("build", "secret", MINUTE).unwrap();
    fixture.reserve("other", "another", MINUTE * 3).unwrap();
    assert_eq!(
        fixture.table.promises().map(|promise| promise.id).collect::<Vec<_>>(),
        [id("build"), id("other")]
    );
    fixture.pass(MINUTE);
    assert_eq!(fixture.claim(1, Some("build")), given("build"));
    assert!(!fixture.table.cancel(&id("build")), "an agent has it");
    assert!(fixture.table.cancel(&id("other")) && !fixture.table.cancel(&id("other")));
    assert_eq!((fixture.table.poll_timeout(), fixture.table.promises().count()), (None, 0));
    assert_eq!(fixture.claim(2, Some("other")), given("other"));
}

#[test]
fn reservations_are_limited_and_evict_nobody() {
    let mut fixture = Fixture::new(3);
    fixture.claim(1, Some("build")).unwrap();
    assert_eq!(fixture.reserve("build", "a", MINUTE), Err(ReserveError::Taken));
    fixture.reserve("b", "b", MINUTE).unwrap();
    assert_eq!(fixture.reserve("b", "c", MINUTE), Err(ReserveError::Taken));
    assert_eq!(fixture.reserve("c", "b", MINUTE), Err(ReserveError::SecretTaken));
    fixture.reserve("c", "c", MINUTE).unwrap();
    assert_eq!(fixture.reserve("d", "d", MINUTE), Err(ReserveError::TooMany));
    fixture.claim_with(2, None, "c");
    assert_eq!(fixture.reserve("d", "d", MINUTE), Err(ReserveError::Full));
}

use super::*;
use std::time::Duration;

fn at(time: Duration, populated_count: u32) -> ResidencyClock {
    ResidencyClock::new(time, populated_count)
}

#[test]
fn each_step_is_handed_out_once_and_then_the_block_is_ready() {
    let geometry = Geometry::new(3 << 20, [(6 << 20) + 5]).unwrap();
    let table = ReadinessTable::new(&geometry, &Bitfield::new(3), 10);
    let block = geometry.span(0, (1 << 20) - 8192, 16384).unwrap();
    let now = at(Duration::from_secs(100), u32::MAX);
    assert_eq!(table.poll(block, now), Readiness::Verify(block.piece));
    assert_eq!(table.poll(block, now), Readiness::Wait);
    table.handle_unhashed(block.piece);
    assert_eq!(table.poll(block, now), Readiness::Verify(block.piece), "again, since the hash was given up");
    table.handle_verified(block.piece);
    table.handle_unhashed(block.piece);
    assert_eq!(table.poll(block, now), Readiness::Populate(0));
    table.handle_unpopulated(0);
    assert_eq!(table.poll(block, now), Readiness::Populate(0));
    assert_eq!(table.poll(block, now), Readiness::Wait);
    assert!(!table.begin_leave(0), "it is being populated");
    table.handle_populated(0, now);
    assert_eq!(table.poll(block, now), Readiness::Populate(1), "the block straddles two extents");
    table.handle_populated(1, now);
    assert_eq!(table.poll(block, now), Readiness::Ready);
    assert!(table.is_ready(block, now));
    table.handle_evicted(0);
    assert_eq!(table.poll(block, now), Readiness::Populate(0));
    table.handle_evicted(0);
    assert_eq!(table.poll(block, now), Readiness::Wait);
    table.handle_populated(0, now);
    assert!(table.begin_leave(1) && !table.begin_leave(1) && !table.is_ready(block, now));
    assert_eq!(table.poll(block, now), Readiness::Wait);
    table.handle_left(1);
    assert_eq!(table.poll(block, now), Readiness::Populate(1));
    assert!(table.handle_unservable(block.piece) && !table.handle_unservable(block.piece));
    assert_eq!(table.poll(block, now), Readiness::Unservable);
}

#[test]
fn populated_extents_expire_by_age_and_by_count() {
    let geometry = Geometry::new(1 << 20, [1 << 20]).unwrap();
    let block = geometry.span(0, 0, 16384).unwrap();
    let table = ReadinessTable::new(&geometry, &Bitfield::full(1), 10);
    let start = Duration::from_secs(1);
    table.handle_populated(0, at(start, u32::MAX - 1));
    let later = start + limits::RESIDENT_MIN;
    assert!(table.is_ready(block, at(later, 7)));
    assert!(!table.is_ready(block, at(later, 8)), "ten more extents were populated since");
    assert!(table.is_ready(block, at(start, 8)), "it was populated just now");
    assert!(!table.is_ready(block, at(start + limits::RESIDENT_MAX, u32::MAX - 1)));
}

#[test]
fn extents_are_served_after_49_days_too() {
    let geometry = Geometry::new(1 << 20, [1 << 20]).unwrap();
    let block = geometry.span(0, 0, 16384).unwrap();
    let table = ReadinessTable::new(&geometry, &Bitfield::full(1), 10);
    let late = Duration::from_secs(100 * 24 * 3600);
    assert_eq!(table.poll(block, at(late, 5)), Readiness::Populate(0));
    table.handle_populated(0, at(late, 5));
    assert!(table.is_ready(block, at(late + Duration::from_secs(1), 6)));
}

#[test]
fn residencies_round_trip_through_integers() {
    let resident = |ms, populated_count| Residency::Resident { ms, populated_count };
    for residency in [
        Residency::Absent,
        Residency::Populating,
        Residency::Leaving,
        resident(0, 0),
        resident(0, u32::MAX),
        Residency::since(at(Duration::MAX, u32::MAX)),
    ] {
        assert_eq!(Residency::decode(residency.encode()), residency);
    }
}

#[test]
fn an_extent_that_is_found_in_memory_needs_no_task() {
    let geometry = Geometry::new(3 << 20, [3 << 20]).unwrap();
    let table = ReadinessTable::new(&geometry, &Bitfield::new(1), 10);
    let block = geometry.span(0, (1 << 20) - 8192, 16384).unwrap();
    let now = at(Duration::from_secs(1), 0);
    assert_eq!(table.absent_extent(block, now), None, "the piece is not verified");
    table.handle_verified(block.piece);
    assert_eq!(table.absent_extent(block, now), Some(0));
    assert!(table.handle_found(0, now));
    assert_eq!(table.absent_extent(block, now), Some(1));
    assert_eq!(table.poll(block, now), Readiness::Populate(1));
    assert_eq!(table.absent_extent(block, now), None, "a task populates it");
    assert!(!table.handle_found(1, now));
    table.handle_populated(1, now);
    assert_eq!((table.absent_extent(block, now), table.poll(block, now)), (None, Readiness::Ready));
    let later = at(Duration::from_secs(1) + limits::RESIDENT_MAX, 0);
    assert_eq!(table.absent_extent(block, later), Some(0), "it no longer counts as resident");
    assert!(table.begin_leave(0) && !table.handle_found(0, later));
}

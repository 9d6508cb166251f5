//! What we are subscribed to, and what was asked of the broker about it and not answered yet.

use std::collections::VecDeque;

use super::packet::{Packet, Subscribe, SubscribeFilter, SubscribeReasonCode, Unsubscribe, WireQoS};
use super::packet_ids::PacketIds;
use super::session::{Action, RequestId, Violation};
use super::topic;
use super::{Error, QoS};

/// Filters of one SUBSCRIBE at most: AWS IoT Core takes 8 ("Subscriptions per subscribe request",
/// AWS IoT Core endpoints and quotas).
const FILTERS_PER_PACKET: usize = 8;

/// Filters and requests that are held at most, so that a caller in a loop cannot fill the memory. AWS IoT Core allows 50
/// subscriptions of one connection.
const LIMIT: usize = 256;

/// Bytes of a SUBSCRIBE beside its filters: fixed header and packet id.
const PACKET_HEADER: usize = 7;

/// Bytes of a filter in a SUBSCRIBE beside its text: length and quality of service.
const FILTER_HEADER: usize = 3;

#[derive(Debug)]
pub(super) struct Subscriptions {
    /// What the broker granted; it is asked for again when the broker has forgotten it.
    granted: Vec<(String, QoS)>,
    /// In the order in which they were asked; the ones with a packet id, which were sent, are in front.
    requests: VecDeque<Request>,
    next: u64,
    max_packet: usize,
}

#[derive(Debug)]
struct Request {
    /// Who waits for the answer; nobody when it is our own, to restore a subscription.
    id: Option<RequestId>,
    filter: String,
    wish: Wish,
    packet_id: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Subscribe(QoS),
    Unsubscribe,
}

impl Subscriptions {
    pub fn new(max_packet: usize) -> Self {
        Self { granted: Vec::new(), requests: VecDeque::new(), next: 0, max_packet }
    }

    pub fn subscribe(&mut self, filter: String, qos: QoS) -> Result<RequestId, Error> {
        // A second subscription must not lower what the first one needs.
        let qos = self.granted.iter().find(|(known, _)| *known == filter).map_or(qos, |(_, known)| qos.max(*known));
        self.request(filter, Wish::Subscribe(qos))
    }

    pub fn unsubscribe(&mut self, filter: String) -> Result<RequestId, Error> {
        let id = self.request(filter.clone(), Wish::Unsubscribe)?;
        self.granted.retain(|(known, _)| *known != filter);
        Ok(id)
    }

    fn request(&mut self, filter: String, wish: Wish) -> Result<RequestId, Error> {
        if !topic::is_filter(&filter) {
            return Err(Error::Filter(filter));
        }
        let size = PACKET_HEADER + FILTER_HEADER + filter.len();
        if size > self.max_packet {
            return Err(Error::TooLarge { size, limit: self.max_packet });
        }
        let asked = self.requests.iter().filter(|request| request.id.is_some()).count();
        // With as many subscriptions as there may be, each can still be ended.
        let limit = if wish == Wish::Unsubscribe { 2 * LIMIT } else { LIMIT };
        if self.granted.len() + asked >= limit {
            return Err(Error::TooManySubscriptions(limit));
        }
        self.next += 1;
        let id = RequestId(self.next);
        self.requests.push_back(Request { id: Some(id), filter, wish, packet_id: None });
        Ok(id)
    }

    /// The connection is up. Requests without an answer are asked again; when the broker has forgotten the session, it is
    /// first asked for all it had granted. Such a request stays until it is answered: the next connection may find the
    /// session that this one made, without the subscription.
    pub fn connected(&mut self, session_present: bool) {
        if session_present {
            return;
        }
        self.requests.retain(|request| request.id.is_some());
        for (filter, qos) in self.granted.iter().rev() {
            let request = Request { id: None, filter: filter.clone(), wish: Wish::Subscribe(*qos), packet_id: None };
            self.requests.push_front(request);
        }
    }

    /// The connection is gone: no answer will come to what was asked on it.
    pub fn disconnected(&mut self, ids: &mut PacketIds) {
        for request in &mut self.requests {
            if let Some(packet_id) = request.packet_id.take() {
                ids.free(packet_id);
            }
        }
    }

    /// The next SUBSCRIBE or UNSUBSCRIBE to send: requests of one kind that follow each other share a packet.
    pub fn next(&mut self, ids: &mut PacketIds) -> Option<Packet> {
        let first = self.requests.iter().position(|request| request.packet_id.is_none())?;
        let packet_id = ids.take()?;
        let is_subscribe = self.requests[first].wish != Wish::Unsubscribe;
        let (mut filters, mut topics, mut size) = (Vec::new(), Vec::new(), PACKET_HEADER);
        for request in self.requests.iter_mut().skip(first).take(FILTERS_PER_PACKET) {
            size += FILTER_HEADER + request.filter.len();
            let is_first = filters.is_empty() && topics.is_empty();
            match request.wish {
                _ if size > self.max_packet && !is_first => break,
                Wish::Subscribe(qos) if is_subscribe => {
                    let qos = if qos == QoS::AtMostOnce { WireQoS::AtMostOnce } else { WireQoS::AtLeastOnce };
                    filters.push(SubscribeFilter { path: request.filter.clone(), qos });
                }
                Wish::Unsubscribe if !is_subscribe => topics.push(request.filter.clone()),
                _ => break,
            }
            request.packet_id = Some(packet_id);
        }
        Some(match is_subscribe {
            true => Packet::Subscribe(Subscribe { pkid: packet_id, filters }),
            false => Packet::Unsubscribe(Unsubscribe { pkid: packet_id, topics }),
        })
    }

    /// The answer to a SUBSCRIBE, one code for each of its filters.
    pub fn suback(
        &mut self,
        packet_id: u16,
        codes: &[SubscribeReasonCode],
        ids: &mut PacketIds,
        actions: &mut VecDeque<Action>,
    ) -> Result<(), Violation> {
        let asked = self.requests.iter().filter(|request| request.packet_id == Some(packet_id));
        let (count, any_unsubscribe) =
            asked.fold((0, false), |(count, any), request| (count + 1, any || request.wish == Wish::Unsubscribe));
        if count == 0 {
            log::debug!("mqtt: SUBACK {packet_id} answers nothing that was asked");
            return Ok(());
        }
        if count != codes.len() || any_unsubscribe {
            return Err(Violation::SubAck { filters: count, codes: codes.len() });
        }
        for (code, request) in codes.iter().zip(self.take(packet_id, ids)) {
            let Wish::Subscribe(wanted) = request.wish else { continue };
            let granted = match code {
                SubscribeReasonCode::Failure => None,
                SubscribeReasonCode::Success(WireQoS::AtMostOnce) => Some(QoS::AtMostOnce),
                SubscribeReasonCode::Success(_) => Some(wanted),
            };
            // A request to unsubscribe that came in the meantime has the last word.
            let is_wanted = !self.requests.iter().any(|r| r.filter == request.filter && r.wish == Wish::Unsubscribe);
            self.granted.retain(|(known, _)| *known != request.filter);
            if granted.is_some() && is_wanted {
                self.granted.push((request.filter.clone(), wanted));
            }
            actions.push_back(Action::Subscribed { request: request.id, filter: request.filter, granted });
        }
        Ok(())
    }

    /// The answer to an UNSUBSCRIBE.
    pub fn unsuback(
        &mut self,
        packet_id: u16,
        ids: &mut PacketIds,
        actions: &mut VecDeque<Action>,
    ) -> Result<(), Violation> {
        let mut asked = self.requests.iter().filter(|request| request.packet_id == Some(packet_id)).peekable();
        if asked.peek().is_none() {
            log::debug!("mqtt: UNSUBACK {packet_id} answers nothing that was asked");
            return Ok(());
        }
        if asked.any(|request| request.wish != Wish::Unsubscribe) {
            return Err(Violation::UnsubAck);
        }
        for request in self.take(packet_id, ids) {
            if let Some(id) = request.id {
                actions.push_back(Action::Unsubscribed(id));
            }
        }
        Ok(())
    }

    /// Takes the answered requests out.
    fn take(&mut self, packet_id: u16, ids: &mut PacketIds) -> VecDeque<Request> {
        ids.free(packet_id);
        let requests = std::mem::take(&mut self.requests);
        let (answered, open) = requests.into_iter().partition(|request| request.packet_id == Some(packet_id));
        self.requests = open;
        answered
    }

    /// Filters that the broker granted.
    pub fn granted(&self) -> usize {
        self.granted.len()
    }
}

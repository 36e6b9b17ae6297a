SET LOCAL campaign.cost_bookkeeping = 'off';
UPDATE campaign.delivery SET calculated_cost = computed.calculated_cost
FROM peer.delivery AS computed
WHERE delivery.id = computed.id

-- Room on each page for its rows to be written once more where they stand: each run writes the costs of the campaigns
-- in which something changed, and of the programs and plans above them, and need not touch their indexes.
ALTER TABLE campaign.campaign SET (fillfactor = 50);
ALTER TABLE campaign.program SET (fillfactor = 50);
ALTER TABLE campaign.plan SET (fillfactor = 50);

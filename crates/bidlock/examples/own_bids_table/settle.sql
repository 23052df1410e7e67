UPDATE bids SET status = CASE its.state WHEN 'abandoned' THEN 'not sent' ELSE its.state END,
    reference = coalesce(its.reference, bids.reference)
FROM bidlock.attempts AS its
WHERE its.id = bids.attempt AND bids.status IN ('sending', 'unknown')
    AND its.state IN ('placed', 'refused', 'withdrawn', 'abandoned')

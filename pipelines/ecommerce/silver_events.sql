-- Each event once: producers repeat rows within a file and across deliveries, and some events have no user.
SELECT DISTINCT
    event_time,
    event_type,
    product_id,
    category_id,
    category_code,
    brand,
    price,
    user_id,
    user_session
FROM bronze.events
WHERE user_id IS NOT NULL

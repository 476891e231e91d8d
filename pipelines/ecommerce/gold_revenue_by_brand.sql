-- What each brand has sold: purchases only, and products without a brand are left out.
SELECT
    brand,
    count(*)   AS purchases,
    sum(price) AS revenue,
    avg(price) AS avg_price
FROM silver.events
WHERE event_type = 'purchase'
  AND brand IS NOT NULL
GROUP BY brand

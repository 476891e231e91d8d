-- How many brands have sold, and the largest of them as a JSON array.
SELECT
    (SELECT count(*) FROM gold.revenue_by_brand) AS sold,
    to_json(list(brand ORDER BY revenue DESC, brand)) AS largest
FROM (
    FROM gold.revenue_by_brand
    ORDER BY revenue DESC, brand
    LIMIT CAST($largest AS INTEGER)
)

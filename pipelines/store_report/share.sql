-- A brand's share of all revenue: `landingd show RUN --all` prints it.
SELECT $brand AS brand, round(100 * sum(revenue) FILTER (brand = $brand) / sum(revenue), 1) AS percent
FROM gold.revenue_by_brand

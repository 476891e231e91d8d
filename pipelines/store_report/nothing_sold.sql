SELECT 'nothing has been sold yet' AS note

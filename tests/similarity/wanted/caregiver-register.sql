CREATE TABLE caregiver (
  id SERIAL PRIMARY KEY,
  disabled_name TEXT,
  disabled_id_card TEXT,
  disability_type TEXT,
  disability_level INTEGER,
  disability_cert_no TEXT,
  guardian_name TEXT,
  guardian_mobile TEXT,
  caregiver_name TEXT,
  caregiver_id_card TEXT,
  home_address TEXT,
  visit_date DATE
);

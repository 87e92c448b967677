CREATE TABLE marriage_appointment (
    appointment_id INTEGER PRIMARY KEY,
    applicant_name TEXT NOT NULL,
    applicant_id_number TEXT NOT NULL,
    applicant_marital_status TEXT,
    spouse_name TEXT,
    spouse_id_number TEXT,
    appointment_date DATE,
    office_name TEXT,
    mobile TEXT
);

CREATE TABLE student_roll (
    student_no varchar(20) PRIMARY KEY,
    name varchar(60) NOT NULL,
    gender char(1),
    birthday date,
    id_card varchar(18),
    school_name varchar(100),
    grade varchar(10),
    class_name varchar(20),
    enrolled_on date,
    guardian_name varchar(60),
    guardian_phone varchar(20),
    home_address varchar(200)
);
COMMENT ON TABLE student_roll IS '学籍信息';
COMMENT ON COLUMN student_roll.student_no IS '学籍号';
COMMENT ON COLUMN student_roll.name IS '学生姓名';
COMMENT ON COLUMN student_roll.gender IS '性别';
COMMENT ON COLUMN student_roll.birthday IS '出生年月日';
COMMENT ON COLUMN student_roll.id_card IS '身份证件号';
COMMENT ON COLUMN student_roll.school_name IS '就读学校';
COMMENT ON COLUMN student_roll.grade IS '年级';
COMMENT ON COLUMN student_roll.class_name IS '班级';
COMMENT ON COLUMN student_roll.enrolled_on IS '入学日期';
COMMENT ON COLUMN student_roll.guardian_name IS '监护人姓名';
COMMENT ON COLUMN student_roll.guardian_phone IS '监护人联系电话';
COMMENT ON COLUMN student_roll.home_address IS '家庭住址';

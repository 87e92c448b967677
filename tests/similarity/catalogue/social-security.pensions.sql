CREATE TABLE pension_payment (
  aac002 VARCHAR(18) NOT NULL, -- 社会保障号码
  aac003 VARCHAR(50), -- 姓名
  aac004 CHAR(1), -- 性别
  aac006 DATE, -- 出生日期
  retire_date DATE, -- 退休日期
  monthly_amount NUMERIC(10,2), -- 月养老金金额
  bank_account VARCHAR(30), -- 银行账号
  bank_name VARCHAR(60), -- 开户银行
  death_date DATE, -- 死亡日期
  employer VARCHAR(100) -- 原工作单位
);

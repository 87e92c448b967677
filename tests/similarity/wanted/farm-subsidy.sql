CREATE TABLE t_bt_ffjl (
  id bigint NOT NULL AUTO_INCREMENT,
  xm varchar(50),
  sfzh varchar(18),
  xb char(1),
  csrq date,
  mz varchar(20),
  hkdz varchar(200),
  lxdh varchar(20),
  khyh varchar(60),
  yhzh varchar(30),
  btje decimal(10,2),
  ffrq date,
  PRIMARY KEY (id)
) COMMENT '耕地地力补贴发放记录';

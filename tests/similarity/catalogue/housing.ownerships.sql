-- 不动产登记：权利信息
CREATE TABLE `bdc_qlxx` (
  `bdcdyh` varchar(28) NOT NULL COMMENT '不动产单元号',
  `bdcqzh` varchar(50) COMMENT '不动产权证号',
  `qlrmc` varchar(100) COMMENT '权利人姓名或名称',
  `qlrzjh` varchar(50) COMMENT '权利人证件号码',
  `zl` varchar(200) COMMENT '坐落',
  `jzmj` decimal(12,2) COMMENT '建筑面积',
  `tnmj` decimal(12,2) COMMENT '套内建筑面积',
  `fwyt` varchar(10) COMMENT '房屋用途',
  `djsj` datetime COMMENT '登记时间',
  `gyfs` char(1) COMMENT '共有方式',
  `dyzt` tinyint(1) COMMENT '是否抵押',
  PRIMARY KEY (`bdcdyh`)
) COMMENT='不动产权利';

include $(sort $(wildcard $(BR2_EXTERNAL_IOTO_PATH)/package/*/*.mk))
